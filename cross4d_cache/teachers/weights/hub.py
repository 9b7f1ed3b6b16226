"""Weights on the hub: an id, or an id pinned to a revision, fetched into the local hub cache."""

from pathlib import Path

from cross4d_cache.errors import TeacherError
from cross4d_cache.installed import needed
from cross4d_cache.teachers.weights.files import SHARDS, WHOLE
from cross4d_cache.teachers.weights.model import first_line

FILES = ["*.json", WHOLE, SHARDS]


def fetch(weights: str) -> tuple[Path, str]:
    """Local folder of `ID` or `ID@REVISION`, and the commit that it holds. A revision is a commit, a tag or a branch.

    Raises:
        SettingsError: the package of the hub is not installed.
        TeacherError: the hub does not have it or cannot be reached.
    """
    with needed("huggingface_hub", "fetches weights from the hub"):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
        )

    identifier, pinned, revision = weights.partition("@")
    if pinned and not revision:
        raise TeacherError(f"{weights} names no revision", expected="ID or ID@REVISION", hint="pass `teacher.weights`")
    try:
        folder = Path(snapshot_download(identifier, revision=revision or None, allow_patterns=FILES, etag_timeout=10))
    except GatedRepoError:
        raise TeacherError(
            f"the weights of {identifier} are gated: the hub gives them to those who accepted their licence and are logged in",
            expected="access to the repository",
            hint=f"accept the licence on https://huggingface.co/{identifier}, log in with `hf auth login`, then run the command again; "
            "or pass its authors' checkpoint file with `teacher.weights`",
        ) from None
    except RepositoryNotFoundError:
        raise TeacherError(
            f"{weights} cannot be fetched from the hub, which has no {identifier}, or a private one",
            hint="check the id; log in with `hf auth login` if it is private",
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise TeacherError(
            f"{weights} cannot be fetched from the hub: {first_line(error)}",
            hint="download the model elsewhere and pass its folder or its authors' checkpoint file with `teacher.weights`, "
            "or try out the plumbing with `teacher.weights` random",
        ) from None
    return folder, folder.name
