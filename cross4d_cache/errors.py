"""Errors that users cause and can fix: one exception family, and the boundary that turns it into a message and exit code 2."""

import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from cross4d_cache.redaction import redact, redacted_output
from cross4d_cache.streams import CLOSED, UnheardError, checked_streams

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""


def printable(text: str) -> str:
    """A line as it may be shown: names come from files of other people, and a control character in one could forge lines or hide some."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _shown(text: str) -> str:
    return printable(redact(text))


def with_options(text: str, options: Mapping[str, str]) -> str:
    """A text whose settings in backquotes, such as `clips.num_points`, are named as a command line calls them, such as --points."""
    return re.sub(r"`([a-z][a-z0-9_.]*)`", lambda match: options.get(match[1], match[0]), text)


class Cross4DError(Exception):
    """An error the user can fix. Its texts lose the logins and signatures of addresses, and control characters are escaped.

    Settings stand in backquotes by their names in requests (`clips.num_points`); a command line calls them by its options.

    Args:
        found: what was found, naming the file, sequence or option.
        details: more of it, a line each.
        expected: what would have been right.
        hint: what to do or run next.
    """

    def __init__(self, found: str, *, details: Sequence[str] = (), expected: str | None = None, hint: str | None = None) -> None:
        self.found, self.expected, self.hint = _shown(found), expected and _shown(expected), hint and _shown(hint)
        self.details = tuple(map(_shown, details))
        super().__init__(self.found)

    def with_options(self, options: Mapping[str, str]) -> str:
        """The whole text, with settings named as a command line calls them."""
        return with_options(str(self), options)

    def __str__(self) -> str:
        lines = [self.found, *(f"    {line}" for line in self.details)]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.hint:
            lines.append(f"  next: {self.hint}")
        return "\n".join(lines)


class SettingsError(Cross4DError):
    """An option or a combination of options that cannot work."""


class NotInstalledError(SettingsError, ImportError):
    """A package that this installation lacks. An ImportError as well: tools that import modules to look at them pass over those."""


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


class CacheUnreadableError(CacheUnreachableError):
    """A file of a store on this machine that could not be read: a permission that is missing, a disk or a share that does not answer."""


class CheckpointError(Cross4DError):
    """A checkpoint that is missing, damaged, or does not fit the encoder or the cache."""


class WorkerError(Cross4DError):
    """A process that works for a command and cannot be started, was killed, or gives no answer."""


@contextmanager
def user_errors(options: Mapping[str, str] | None = None) -> Iterator[None]:
    """The boundary of a command: a `Cross4DError` becomes one message on stderr and exit code 2, and nothing secret is printed.

    `options` says how the command line calls the settings that a message names.

    `CROSS4D_DEBUG=1` keeps the traceback. Typer turns Ctrl-C into an exit with code 130 before it gets here. A result that cannot be
    written to standard output is such an error too; where its reader went away, the command ends in silence with code 141.
    """
    with checked_streams(), redacted_output():
        try:
            _check_system()
            try:
                yield
            finally:
                sys.stdout.flush()
        except UnheardError as error:
            if error.reason is None:
                raise SystemExit(CLOSED) from None
            print(f"error: cannot write the result to standard output: {error.reason}", file=sys.stderr)
            raise SystemExit(2) from None
        except Cross4DError as error:
            if os.environ.get("CROSS4D_DEBUG") == "1":
                traceback.print_exc()
            else:
                print(f"error: {error.with_options(options or {})}", file=sys.stderr)
            raise SystemExit(2) from None
        except SystemExit as stop:
            if stop.code == INTERRUPTED:
                print("interrupted: what was finished is kept; run the same command again to resume", file=sys.stderr)
            raise
        except Exception:  # what Python would do, but for the secrets
            traceback.print_exc()
            raise SystemExit(1) from None


def _check_system() -> None:
    """Folders are locked and flushed as POSIX has it.

    Raises:
        SettingsError: this system is none of those that can.
    """
    if find_spec("fcntl") is None:
        raise SettingsError(
            f"this system ({sys.platform}) has no locks of files as Linux has them (fcntl)",
            expected="Linux, macOS, or WSL on Windows",
            hint="run the same command there",
        )
