"""A server of plain files over HTTP."""

import errno
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPResponse
from typing import TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

from cross4d_cache.errors import CacheUnreachableError
from cross4d_cache.store.storage.client import Client, FinalError, is_final, why
from cross4d_cache.store.storage.login import TOKEN
from cross4d_cache.store.storage.source import BLOCK, Source
from cross4d_cache.store.storage.waiting import AgainError, Patience, Trial

SLOWEST = 256
"""Bytes a second, over a minute, below which a connection is given up: a server may trickle for ever."""
MINUTE = 60.0
MISSING = (403, 404, 410)
"""Object stores say 403 of what is not there to those who may not list."""
AWAY = (408, 425, 429, 502, 503, 504)
"""A server that will be back; 500 may as well be one that is broken."""
LOGIN = f"put your login for the host into ~/.netrc, or a token into the environment variable {TOKEN}"

Answer = TypeVar("Answer")


class WebPageError(CacheUnreachableError):
    """A page for people in place of data."""


class WebSource(Source):
    """Files below a URL; the name "" is that of the URL itself. Interrupted downloads go on where they were; a server that gives other
    bytes than asked for is refused, and one that is away is waited for, `minutes` long (None: as the environment says).

    Raises:
        SettingsError: an environment variable that cannot be read.
        ValueError: the port of the URL is no number.
    """

    def __init__(self, url: str, minutes: float | None = None) -> None:
        parts = urlsplit(url)
        plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        super().__init__(plain.rstrip("/"))  # neither password nor signature in messages
        self._url = plain
        self._query = f"?{parts.query}" if parts.query else ""
        self._client, self._patience = Client(parts), Patience(self.place, minutes)

    def path(self, name: str) -> str:
        """What messages call a file."""
        return super().path(name) if name else self.place

    def stop(self) -> None:
        """End all waiting for the server."""
        self._patience.stop()

    def size(self, name: str) -> int:
        """Bytes of a file, from the answer to a request for its first one."""

        def ask(trial: Trial) -> int:
            with self._request(name, {"Range": "bytes=0-0"}, trial) as answer:
                of_range, of_file = answer.headers.get("Content-Range", "").rpartition("/")[2], answer.headers.get("Content-Length", "")
                value = of_file if answer.status == 200 else of_range
                if value != "0":
                    _confirm(answer)
            if not value.isdecimal() or len(value) > 18:
                raise ValueError("the server does not say how large it is")
            return int(value)

        return self._attempt(name, ask)

    def stream(self, name: str, start: int, size: int) -> Iterator[bytes]:
        """Exactly `size` bytes of a file from `start`, in blocks."""
        position, end, trial = start, start + size, self._patience.trial()
        while position < end:
            try:
                for block in self._range(name, position, end, trial):
                    position += len(block)
                    trial.progressed()
                    yield block
            except (HTTPError, AgainError, ConnectionError) as error:
                self._failed(name, error, trial)

    def _range(self, name: str, start: int, end: int, trial: Trial) -> Iterator[bytes]:
        with self._request(name, {"Range": f"bytes={start}-{end - 1}"}, trial) as answer:
            if answer.status == 416:
                raise ValueError(f"the file ends before {end} bytes")
            given, _, total = answer.headers.get("Content-Range", "").partition("/")
            length = total if answer.status == 206 else answer.headers.get("Content-Length", "")
            if length.isdecimal() and int(length[:18]) < end:
                _confirm(answer)
                raise ValueError(f"the file has {length[:18]} bytes, not {end}")
            if answer.status == 206 and given != f"bytes {start}-{end - 1}":
                raise AgainError(f"the server gave {given[:80]!r} in place of bytes {start}-{end - 1}", lasting=True)
            skipped, done, check_rate = start if answer.status == 200 else 0, 0, _slowest()  # 200: it serves whole files only
            while done < skipped + end - start:
                left = skipped - done if done < skipped else skipped + end - start - done
                block = answer.read1(min(BLOCK, left))
                if not block:
                    raise AgainError(f"the connection ended {left} bytes early")
                done += len(block)
                if done > skipped:
                    yield block
                check_rate(done)
            if answer.status == 206 and answer.read(1):  # reading past the end also gives the connection back
                raise ValueError(f"the server gave more than the {end - start} bytes that were asked for")

    def whole(self, name: str, most: int) -> bytes:
        """A file whose size is not known beforehand, in one request if nothing interrupts it."""

        def ask(trial: Trial) -> tuple[bytes, int]:
            with self._request(name, {}, trial) as answer:
                length = answer.headers.get("Content-Length", "")
                if not length.isdecimal() and "chunked" not in answer.headers.get("Transfer-Encoding", ""):
                    raise AgainError("the server does not say where the file ends", lasting=True)
                end, blocks, size, check_rate = int(length[:18]) if length else None, list[bytes](), 0, _slowest()
                if (end or 0) > most:
                    raise ValueError(f"{length} bytes are more than the {most} it may have")
                try:
                    while block := answer.read1(BLOCK):
                        blocks.append(block)
                        size += len(block)
                        if size > most:
                            raise ValueError(f"more than the {most} bytes it may have")
                        check_rate(size)
                except HTTPError:
                    if end is None or not blocks:
                        raise
                return b"".join(blocks), size if end is None else end

        data, size = self._attempt(name, ask)
        return data + self.read(name, len(data), size - len(data)) if len(data) < size else data

    def names(self) -> None:
        """Servers do not list files."""
        return None

    def _attempt(self, name: str, ask: Callable[[Trial], Answer]) -> Answer:
        trial = self._patience.trial()
        while True:
            try:
                return ask(trial)
            except (HTTPError, AgainError, ConnectionError) as error:
                self._failed(name, error, trial)

    def _failed(self, name: str, error: Exception, trial: Trial) -> None:
        """Wait before the next request.

        Raises:
            CacheUnreachableError: no other one would be of use, or there have been enough.
        """
        if is_final(error):
            raise self._unreachable(name, why(error)) from None
        trial.failed(error if isinstance(error, AgainError) else AgainError(why(error)), self.path(name))

    @contextmanager
    def _request(self, name: str, headers: Mapping[str, str], trial: Trial) -> Iterator[BaseHTTPResponse]:
        url = f"{self._url.rstrip('/')}/{quote(name)}{self._query}" if name else f"{self._url}{self._query}"
        with trial.turn():
            try:
                answer = self._client.get(url, headers)
            except FinalError as error:
                raise self._unreachable(name, str(error)) from None
            try:
                self._check(name, answer)
                yield answer
            finally:
                answer.close()  # one that was read to its end has given its connection back before

    def _check(self, name: str, answer: BaseHTTPResponse) -> None:
        """Whether an answer has what was asked for, to go by its head."""
        original, status = getattr(answer, "_original_response"), answer.status  # noqa: B009
        self._patience.answered(well=status not in AWAY)
        # A connection that ends within the headers leaves some out, or cuts a number short, and nobody else minds.
        if original.msg.defects:
            raise AgainError("the connection ended within the headers")
        said = f"the server answers {status} {_phrase(status)}"
        if status in MISSING:
            raise FileNotFoundError(errno.ENOENT, said, name)
        if status in AWAY:
            raise AgainError(said, retry_after=_retry_after(answer), crowded=status == 429)
        if status == 500:
            raise AgainError(said, lasting=True)
        if status == 401:
            raise self._unreachable(name, f"it needs a login, or another one ({said})", LOGIN)
        if status not in (200, 206, 416):
            raise self._unreachable(name, said)
        if "html" in answer.headers.get("Content-Type", "") and _begins_as_page(original):  # scripts that send files may say so too
            raise WebPageError(
                f"{self.path(name)} cannot be had: the server answered with a web page, perhaps a login",
                expected="the files of a store, or a zip that `cross4d-cache pack` wrote",
                hint=f"look at the address in a browser; if it needs a login, {LOGIN}",
            )

    def _unreachable(self, name: str, reason: str, hint: str = "look at the address and the network") -> CacheUnreachableError:
        return CacheUnreachableError(
            f"{self.path(name)} cannot be had: {reason}", hint=f"{hint}, then run the same again; what has been loaded is kept"
        )


def _phrase(status: int) -> str:
    return next((known.phrase for known in HTTPStatus if known == status), "")  # the server's own may be anything


def _retry_after(answer: BaseHTTPResponse) -> float | None:
    """In how many seconds the server wants to be asked again; it may name a time of day."""
    try:
        seconds = Retry().get_retry_after(answer)
    except InvalidHeader:
        return None
    return None if seconds is None else float(seconds)


def _begins_as_page(body: HTTPResponse) -> bool:
    try:
        return body.peek(512).lstrip().lower().startswith((b"<!doctype html", b"<html"))
    except OSError:  # whoever reads it gets this error again
        return False


def _confirm(answer: BaseHTTPResponse) -> None:
    """A connection that ends within the headers may cut a number short; then nothing comes after them."""
    if not answer.read1(1):
        raise AgainError("the connection ended behind the headers")


def _slowest() -> Callable[[int], None]:
    """A watch over the bytes that have come so far."""
    begin = time.monotonic()

    def check(done: int) -> None:
        waited = time.monotonic() - begin
        if waited > MINUTE and done / waited < SLOWEST:
            raise AgainError(f"{done / waited:.0f} bytes a second", lasting=True)

    return check
