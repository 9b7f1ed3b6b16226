"""What users can cause and mend: one exception family, and the boundary that turns it into a message and exit code 2."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""


class Cross4DError(Exception):
    """A failure the user can mend.

    Args:
        found: what was found, naming the file, sequence or option.
        expected: what would have been right.
        hint: what to do or run next.
    """

    def __init__(self, found: str, *, expected: str | None = None, hint: str | None = None) -> None:
        self.found, self.expected, self.hint = found, expected, hint
        lines = [found]
        if expected:
            lines.append(f"  expected: {expected}")
        if hint:
            lines.append(f"  next: {hint}")
        super().__init__("\n".join(lines))


class SettingsError(Cross4DError):
    """An option or a combination of options that cannot work."""


class DatasetError(Cross4DError):
    """Raw data that is missing, damaged or not what the reader expects; `sequence` is the id of the one it concerns, if it is one."""

    sequence: str | None = None

    def of(self, sequence: str) -> "DatasetError":
        """The same error, with the sequence it concerns."""
        self.sequence = sequence
        return self


class TeacherError(Cross4DError):
    """Teacher weights that cannot be found, reached or fitted."""


class OutputError(Cross4DError):
    """A place that cannot be written to, or that something else occupies."""


class CacheError(Cross4DError):
    """A store that cannot be used; the subclasses say why."""


class CacheFormatError(CacheError):
    """Not a store, a store of an unknown format version, or one whose contents contradict the format."""


class CacheIncompleteError(CacheError):
    """A store whose build has not finished."""


class CacheMismatchError(CacheError):
    """A store that was built with other settings than the ones asked for."""


class CacheCorruptError(CacheError):
    """Bytes that differ from the ones that were written."""


class CacheUnreachableError(CacheError):
    """A server that does not answer, or not as it should."""


class CheckpointError(Cross4DError):
    """A checkpoint that is missing, damaged, or does not fit the encoder or the cache."""


class WorkerError(Cross4DError):
    """A process that works for a command and cannot be started, was killed, or gives no answer."""


@contextmanager
def user_errors() -> Iterator[None]:
    """The boundary of a command: a `Cross4DError` becomes one message on stderr and exit code 2.

    `CROSS4D_DEBUG=1` keeps the traceback. Typer turns Ctrl-C into an exit with code 130 before it gets here.
    """
    try:
        yield
    except Cross4DError as error:
        if os.environ.get("CROSS4D_DEBUG") == "1":
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            print("interrupted: what was finished is kept; run the command again to go on (a training run with --resume)", file=sys.stderr)
        raise
