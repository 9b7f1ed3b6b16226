"""A server of plain files over HTTP."""

import errno
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry, Timeout, make_headers

from cross4d_cache.errors import CacheUnreachableError
from cross4d_cache.store.storage.source import BLOCK, CONNECTIONS, Source

ATTEMPTS = 6
"""Requests in a row that bring nothing new; any byte that arrives starts the count anew."""
FIRST_WAIT = 0.2
"""Seconds before the second attempt; each later one waits twice as long."""
TIMEOUT = Timeout(connect=10.0, read=30.0)
REDIRECTS = Retry(total=None, connect=0, read=0, status=0, other=0, redirect=5)
SLOWEST = 256
"""Bytes a second, over a minute, below which a connection is given up: a server may trickle for ever."""
MINUTE = 60.0
MISSING = (403, 404, 410)
"""Object stores say 403 of what is not there to those who may not list."""
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


Answer = TypeVar("Answer")


class _ServerError(Exception):
    """An answer that another attempt may mend."""


class WebSource(Source):
    """Files below a URL. Interrupted downloads go on where they were; a server that gives other bytes than asked for is refused."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        super().__init__(urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", "")))  # neither password nor signature in messages
        self._base = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._query = f"?{parts.query}" if parts.query else ""
        self._headers = make_headers(accept_encoding="identity", user_agent="cross4d")
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["authorization"] = f"Basic {b64encode(login.encode()).decode()}"
        self._pool = urllib3.PoolManager(maxsize=CONNECTIONS, timeout=TIMEOUT, retries=False)

    def size(self, name: str) -> int:
        """Bytes of a file, from the answer to a request for its first one."""

        def ask() -> int:
            with self._request(name, {"Range": "bytes=0-0"}) as answer:
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
        position, end, failures, wait = start, start + size, 0, FIRST_WAIT
        while position < end:
            before = position
            try:
                for block in self._range(name, position, end):
                    position += len(block)
                    yield block
            except (HTTPError, _ServerError, ConnectionError) as error:
                failures, wait = (1, FIRST_WAIT) if position > before else (failures + 1, wait * 2)
                if failures >= ATTEMPTS:
                    raise self._unreachable(name, error) from None
                time.sleep(wait)

    def _range(self, name: str, start: int, end: int) -> Iterator[bytes]:
        with self._request(name, {"Range": f"bytes={start}-{end - 1}"}) as answer:
            if answer.status == 416:
                raise ValueError(f"the file ends before {end} bytes")
            given, _, total = answer.headers.get("Content-Range", "").partition("/")
            length = total if answer.status == 206 else answer.headers.get("Content-Length", "")
            if length.isdecimal() and int(length[:18]) < end:
                _confirm(answer)
                raise ValueError(f"the file has {length[:18]} bytes, not {end}")
            if answer.status == 206 and given != f"bytes {start}-{end - 1}":
                raise _ServerError(f"the server gave {given[:80]!r} in place of bytes {start}-{end - 1}")
            skipped, done, check_rate = start if answer.status == 200 else 0, 0, _slowest()  # 200: it serves whole files only
            while done < skipped + end - start:
                left = skipped - done if done < skipped else skipped + end - start - done
                block = answer.read1(min(BLOCK, left))
                if not block:
                    raise _ServerError(f"the connection ended {left} bytes early")
                done += len(block)
                if done > skipped:
                    yield block
                check_rate(done)
            if answer.status == 206 and answer.read(1):  # reading past the end also gives the connection back
                raise ValueError(f"the server gave more than the {end - start} bytes that were asked for")

    def whole(self, name: str, most: int) -> bytes:
        """A file whose size is not known beforehand, in one request if nothing interrupts it."""

        def ask() -> tuple[bytes, int]:
            with self._request(name, {}) as answer:
                length = answer.headers.get("Content-Length", "")
                if not length.isdecimal() and "chunked" not in answer.headers.get("Transfer-Encoding", ""):
                    raise _ServerError("the server does not say where the file ends")
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

    def _attempt(self, name: str, ask: Callable[[], Answer]) -> Answer:
        wait = FIRST_WAIT
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return ask()
            except (HTTPError, _ServerError, ConnectionError) as error:
                if attempt == ATTEMPTS:
                    raise self._unreachable(name, error) from None
                time.sleep(wait)
                wait *= 2
        raise AssertionError("unreachable")

    @contextmanager
    def _request(self, name: str, headers: Mapping[str, str]) -> Iterator[BaseHTTPResponse]:
        url = f"{self._base}/{quote(name)}{self._query}"
        answer = self._pool.request(
            "GET", url, headers={**self._headers, **headers}, retries=REDIRECTS, preload_content=False, decode_content=False
        )
        try:
            # A connection that ends within the headers leaves some out, or cuts a number short, and nobody else minds.
            if getattr(answer, "_original_response").msg.defects:  # noqa: B009
                raise _ServerError("the connection ended within the headers")
            if answer.status in MISSING:
                raise FileNotFoundError(errno.ENOENT, f"the server answers {answer.status} {_phrase(answer.status)}", name)
            if answer.status in TRANSIENT:
                raise _ServerError(f"status {answer.status}")
            if answer.status not in (200, 206, 416):
                raise self._unreachable(name, f"status {answer.status}")
            if url.startswith("https:") and not (answer.url or url).startswith(("https:", "/")):
                raise self._unreachable(name, "the server leads from https to http")
            yield answer
        finally:
            answer.close()  # one that was read to its end has given its connection back before

    def _unreachable(self, name: str, reason: object) -> CacheUnreachableError:
        return CacheUnreachableError(
            f"{self.path(name)} cannot be had: {str(reason)[:300] or type(reason).__name__}",
            hint="look at the address and the network, then run the same again; what has been loaded is kept",
        )


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase  # the server's own may be anything


def _confirm(answer: BaseHTTPResponse) -> None:
    """A connection that ends within the headers may cut a number short; then nothing comes after them."""
    if not answer.read1(1):
        raise _ServerError("the connection ended behind the headers")


def _slowest() -> Callable[[int], None]:
    """A watch over the bytes that have come so far."""
    begin = time.monotonic()

    def check(done: int) -> None:
        waited = time.monotonic() - begin
        if waited > MINUTE and done / waited < SLOWEST:
            raise _ServerError(f"{done / waited:.0f} bytes a second")

    return check
