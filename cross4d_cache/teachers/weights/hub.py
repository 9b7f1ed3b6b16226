"""Weights on the hub: an id, or an id pinned to a revision, fetched into the local hub cache."""

from pathlib import Path

from cross4d_cache.errors import TeacherError
from cross4d_cache.teachers.weights.model import first_line

FILES = ["*.json", "model.safetensors"]


def fetch(weights: str) -> tuple[Path, str]:
    """Local folder of `ID` or `ID@REVISION`, and the commit that it holds. A revision is a commit, a tag or a branch.

    Raises:
        TeacherError: the hub does not have it or cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    identifier, pinned, revision = weights.partition("@")
    if pinned and not revision:
        raise TeacherError(f"{weights} names no revision", expected="ID or ID@REVISION", hint="pass --weights")
    try:
        folder = Path(snapshot_download(identifier, revision=revision or None, allow_patterns=FILES, etag_timeout=10))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise TeacherError(
            f"{weights} cannot be fetched from the hub: {first_line(error)}",
            hint="download the model elsewhere and pass its folder or its authors' checkpoint file with --weights, "
            "or try out the plumbing with --weights random",
        ) from None
    return folder, folder.name
