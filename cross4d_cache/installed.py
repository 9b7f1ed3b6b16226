"""Packages that an installation may lack: extras, and what training from stores does without (requirements-train.txt)."""

from collections.abc import Iterator
from contextlib import contextmanager

from cross4d_cache.errors import NotInstalledError

EVERYTHING = "pip install cross4d, which installs all that is missing"


@contextmanager
def needed(package: str, purpose: str, install: str = EVERYTHING) -> Iterator[None]:
    """Around the import of a package that `purpose` asks for ("draws pictures"); `install` is what the user may do where it is missing.

    Raises:
        NotInstalledError: it is not installed, or lacks a system library.
    """
    try:
        yield
    except (ImportError, OSError) as error:
        raise NotInstalledError(f"{package}, which {purpose}, cannot be imported: {error}", hint=install) from None
