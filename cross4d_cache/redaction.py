"""Texts without secrets: every message, and every place that is recorded, passes `redact` before anybody sees it."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

_SCHEME = r"(?<![A-Za-z0-9+.-])(?:[A-Za-z][A-Za-z0-9+.-]*://|(?:https?|s3|ftp):/)"  # a path that an address was taken for has one slash
_LOGIN = re.compile(
    rf"({_SCHEME})(?:"
    r"[^/?#\s\"]*@"
    r"|[^/\s\"@:]*:(?!\d{1,5}(?:[/?#\s\"]|$))[^\s\"]*@"  # no port, so a password with a / ? or # that should have been escaped
    r"|[^/\s\"@:]*:[^/\"\n]*@)"  # one with a space
)
_QUERY = re.compile(rf"({_SCHEME}[^\s?#\"<>]*)[?#][^\s\"<>\\]*[^\s\"<>\\.,:;)\]}}']")


def redact(text: str) -> str:
    """A text whose addresses have lost what may be secret: login, query (where signatures are) and fragment."""
    return _QUERY.sub(r"\1", _LOGIN.sub(r"\1", text)) if ":/" in text else text


class _Redacted:
    """A text stream that takes secrets out of what is written to it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return int(self._stream.write(redact(text)))

    def writelines(self, lines: list[str]) -> None:
        self._stream.writelines(map(redact, lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def redacted_output() -> Iterator[None]:
    """Take secrets out of all that is printed within: results, messages, bars, log lines."""
    out, err = (cast(TextIO, _Redacted(stream)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        yield
