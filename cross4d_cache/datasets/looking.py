"""Looking at raw files: errors that pass are waited out, and what could not be looked at is not called damaged."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cross4d_cache.errors import DatasetError
from cross4d_cache.patience import hint_for, patiently

Found = TypeVar("Found")


def look_at(path: Path, look: Callable[[], Found], hint: str) -> Found:
    """What `look` finds at a file or folder.

    Raises:
        DatasetError: it cannot be read; `hint` is for one that is missing, or is something else.
    """
    try:
        return patiently(look)
    except OSError as error:
        raise unreadable(path, error, hint) from None


def unreadable(path: Path, error: OSError, hint: str) -> DatasetError:
    """The error for a file or folder that cannot be read."""
    return DatasetError(f"{path} cannot be read: {error.strerror or error}", hint=hint_for(error, hint))
