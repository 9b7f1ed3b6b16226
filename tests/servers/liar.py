"""An HTTP server that can be told to misbehave, and counts what it gave away."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

Answer = Callable[["Handler", bytes, int, int | None], None]
"""Answers a request for a file's bytes from a start to a stop (None: no range was asked for)."""


class Server(ThreadingHTTPServer):
    """Files below `root`; `answer` replaces the honest way to give them, of files whose path contains `of`."""

    daemon_threads = True

    def __init__(self, root: Path, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.root, self.answer, self.of = root, honest, ""
        self.requests: list[tuple[str, int]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        """The line of every request, and its headers: whole addresses, where this was the proxy."""
        self.lock = threading.Lock()
        # Every test waits for the end of its server, which looks that often whether it is to end.
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def given(self) -> int:
        """Bytes of all answers."""
        return sum(count for _, count in self.requests)

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are nothing to talk about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # the body of every answer would wait 40 ms for the receipt of its headers
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        path = self.server.root / unquote(urlsplit(self.path).path).lstrip("/")
        if not path.is_file():
            self.give(404, b"")
            return
        data, wanted = path.read_bytes(), self.headers.get("Range")
        start, stop = 0, None
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), int(last) + 1
        lies = self.server.of in self.path
        (self.server.answer if lies else honest)(self, data, start, stop)

    def give(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        """An answer; `length` is what its header says."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        with self.server.lock:
            self.server.requests.append((self.path, len(body)))

    def log_message(self, format: str, *args: Any) -> None:
        pass


def honest(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
    if stop is None:
        handler.give(200, data)
    elif start >= len(data):
        handler.give(416, b"", Content_Range=f"bytes */{len(data)}")
    else:
        stop = min(stop, len(data))
        handler.give(206, data[start:stop], Content_Range=f"bytes {start}-{stop - 1}/{len(data)}")


def without_ranges(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
    handler.give(200, data)


def other_content(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
    honest(handler, bytes(byte ^ 1 for byte in data), start, stop)


def shifted_ranges(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
    """The wrong bytes, with a header that admits it."""
    honest(handler, data, max(start - 1, 0), stop)


def ranges_that_lie(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
    """The wrong bytes, with a header that does not."""
    if stop is None or start == 0:
        other_content(handler, data, start, stop)
    else:
        handler.give(206, data[start - 1 : stop - 1], Content_Range=f"bytes {start}-{stop - 1}/{len(data)}")


def too_short(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
    """Promises all and hangs up half way."""
    part = data[start:stop]
    stop = start + len(part)
    handler.give(206, part[: len(part) // 2], length=len(part), Content_Range=f"bytes {start}-{stop - 1}/{len(data)}")
    handler.close_connection = True


def too_long(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
    part = data[start:stop]
    handler.give(206, part + b"more", Content_Range=f"bytes {start}-{start + len(part) - 1}/{len(data)}")


def endless(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
    """A body that never ends, of a length that is not said."""
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    for _ in range(4096):
        handler.wfile.write(bytes(2**20))


def huge_length(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
    part = data[start:stop]
    handler.give(206, part, length=2**60, Content_Range=f"bytes {start}-{start + len(part) - 1}/{2**60}")
    handler.close_connection = True


def errors(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
    handler.give(503, b"busy")


def redirects_for_ever(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
    handler.give(302, b"", Location=handler.path)


def redirect_to_a_file(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
    handler.give(302, b"", Location="file:///etc/passwd")


LIES: dict[str, Answer] = {
    function.__name__: function
    for function in (
        other_content, shifted_ranges, ranges_that_lie, too_short, too_long, endless, huge_length, errors, redirects_for_ever,
        redirect_to_a_file,
    )
}  # fmt: skip
"""Ways to answer that must never end in wrong numbers."""
