"""Students on the hub: an id, or an id pinned to a revision, fetched into the local hub cache."""

import re
from collections.abc import Sequence
from pathlib import Path

from cross4d_cache.errors import CheckpointError, SettingsError
from cross4d_cache.installed import needed

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@.*)?", re.ASCII)
"""`OWNER/NAME` or `OWNER/NAME@REVISION`."""
FILE_SUFFIXES = (".safetensors", ".zip", ".pt", ".pth")


def is_hub_id(place: str) -> bool:
    """Whether a place, which is nothing here, may be one on the hub; what ends as files do is a file that is missing."""
    return HUB_ID.fullmatch(place) is not None and not place.endswith(FILE_SUFFIXES)


def fetch(place: str, files: Sequence[str]) -> Path:
    """Local folder of `OWNER/NAME` or `OWNER/NAME@REVISION` with those of its files; nothing else of it is loaded. A revision is a commit,
    a tag or a branch.

    Raises:
        SettingsError: the hub's own client is not installed, or a revision is announced and not named.
        CheckpointError: the hub does not have it, does not give it, or cannot be reached.
    """
    identifier, pinned, revision = place.partition("@")
    if pinned and not revision:
        raise SettingsError(f"{place} names no revision", expected="OWNER/NAME or OWNER/NAME@REVISION", hint="name one, or leave the @ out")
    with needed("huggingface_hub", f"would look on the hub for {place}, which is not here"):
        from huggingface_hub import errors as hub
        from huggingface_hub import snapshot_download
    nothing_here = f"there is no file or folder {place} here"
    try:
        return Path(snapshot_download(identifier, revision=revision or None, allow_patterns=list(files), etag_timeout=10))
    except hub.GatedRepoError:
        raise CheckpointError(
            f"{nothing_here}, and the student {identifier} is gated: the hub gives it to those who accepted its terms and are logged in",
            expected="access to the repository",
            hint=f"accept the terms on https://huggingface.co/{identifier}, log in with `hf auth login`, then run the same again",
        ) from None
    except hub.RepositoryNotFoundError:
        raise CheckpointError(
            f"{nothing_here}, and {place} cannot be fetched from the hub, which has no {identifier}, or a private one",
            hint="check the path or the id; log in with `hf auth login` if it is private",
        ) from None
    except (hub.LocalEntryNotFoundError, hub.HfHubHTTPError, hub.HFValidationError, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{nothing_here}, and {place} cannot be fetched from the hub: {reason}",
            hint=f"check the path or the id; without a network, `hf download {identifier}` elsewhere and pass the folder",
        ) from None
