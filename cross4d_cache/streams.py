"""Standard output and error of a command: results have to arrive, talk has not."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import StringIO, TextIOBase
from typing import Any, TextIO

CLOSED = 141
"""Exit code of a command whose reader went away, such as `| head`: that of programs which SIGPIPE ends."""


class UnheardError(Exception):
    """A result that could not be written to standard output. `reason` says why; None: its reader wants no more."""

    def __init__(self, error: OSError) -> None:
        self.reason = None if error.errno == errno.EPIPE else error.strerror
        super().__init__(self.reason)


class _Stream:
    """A stream whose writing may fail, for all else as it is. What fails is left in no buffer, from which it would fail again at exit."""

    def __init__(self, stream: TextIO | TextIOBase) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, and return the number of characters."""
        with self._failing():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what waits."""
        with self._failing():
            self._stream.flush()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        """Talk that nobody hears ends no work."""


class _Results(_Stream):
    def _failed(self, error: OSError) -> None:
        raise UnheardError(error)


@contextmanager
def checked_streams() -> Iterator[None]:
    """Within, standard output raises `UnheardError` where it cannot be written to, and standard error is silent where it cannot.

    Python has None for a stream that was closed when it started; nobody asked for what goes there.
    """
    out, error = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Results(out or StringIO()), _Stream(error or StringIO())
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, error
