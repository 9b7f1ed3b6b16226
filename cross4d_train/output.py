"""Places that are written to, and what is said when that fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cross4d_cache.errors import OutputError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system refuses is told as an error of the place.

    Raises:
        OutputError: it does.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write to {path}: {error.strerror}",
            expected="a folder that can be written to, with space left",
            hint="free some space or fix its permissions, then run the same again",
        ) from None
