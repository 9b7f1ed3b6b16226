"""Students that were loaded from other machines or unpacked, kept on this one: whole files by their hash."""

import hashlib
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cross4d_cache.durable import flush, partial_path, partial_paths, sweep, sync_folder
from cross4d_cache.errors import CheckpointError, SettingsError
from cross4d_cache.patience import is_there
from cross4d_cache.store.digest import sha256_file
from cross4d_cache.store.storage.blobs import FOLDER, folder_of_user
from cross4d_train.output import writing

DAY = 86_400.0
"""Seconds after which a file that was begun is one that a killed process left."""


def kept(sha256: str) -> Path | None:
    """The file of this hash, if it is here and intact.

    Raises:
        SettingsError: the user has no folder for files.
    """
    path = _folder() / f"{sha256}.safetensors"
    return path if is_there(path) and sha256_file(path) == sha256 else None


def keep(blocks: Iterable[bytes], what: str, sha256: str | None) -> Path:
    """Write the bytes of `what`, which must have this hash if one is given, to a file that is there whole or not at all.

    Raises:
        CheckpointError: they have another hash.
        OutputError: they cannot be written.
        SettingsError: the user has no folder for files.
    """
    folder, digest = _folder(), hashlib.sha256()
    partial = partial_path(folder, "student")
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _sweep(folder)
            with partial.open("wb") as file:
                for block in blocks:
                    digest.update(block)
                    file.write(block)
                file.flush()
                flush(file.fileno())
        found = digest.hexdigest()
        if sha256 is not None and found != sha256:
            raise other_bytes(what, found, sha256)
        with writing(folder):
            path = partial.replace(folder / f"{found}.safetensors")
            sync_folder(folder)
        return path
    finally:
        sweep(partial)


def other_bytes(what: str, found: str, expected: str) -> CheckpointError:
    """The error of a file that has another hash than it should."""
    return CheckpointError(
        f"{what} has the sha256 {found}",
        expected=expected,
        hint="it is damaged, or another student than was meant: copy or export it again, or ask whoever told you the hash",
    )


def _folder() -> Path:
    folder = folder_of_user()
    if folder is None:
        raise SettingsError(
            "there is no folder for what is loaded: the user has no home",
            expected="a folder that can be written to",
            hint=f"name one with the environment variable {FOLDER}",
        )
    return folder / "students"


def _sweep(folder: Path) -> None:
    """Remove what killed processes left."""
    for left in list(partial_paths(folder)):
        with suppress(FileNotFoundError):  # another process may have finished it
            if time.time() - left.stat().st_mtime > DAY:
                sweep(left)
