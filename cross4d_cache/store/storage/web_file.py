"""One file of a web server, as Python's own libraries read files: a zip is opened where it lies, and only what is read of it is loaded."""

import io
from collections.abc import Generator
from typing import cast

from cross4d_cache.store.storage.place import split_address
from cross4d_cache.store.storage.source import BLOCK, Source


def open_web_file(address: str, *, hint: str) -> io.BufferedReader:
    """A file at `http://` or `https://`, with the waiting, proxies and logins that stores have. The caller closes it.

    Raises:
        SettingsError: an address of another kind, for which `hint` says what to do.
        FileNotFoundError: there is none.
        ValueError: it is no plain file.
        CacheUnreachableError: the server does not answer, or not as it should; reading may raise it too.
    """
    split_address(address, ("https", "http"), hint=hint)
    from cross4d_cache.store.storage.web import WebSource  # which nobody needs who reads from a disk

    return io.BufferedReader(_SourceFile(WebSource(address), ""), BLOCK)


class _SourceFile(io.RawIOBase):
    """A file of a source. Reading on is one request, however far it goes; a jump begins another one."""

    def __init__(self, source: Source, name: str) -> None:
        self._source, self._name, self._size = source, name, source.size(name)
        self._position = 0
        self._blocks: Generator[bytes, None, None] | None = None
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + (0, self._position, self._size)[whence]
        if position < 0:
            raise ValueError("a place before the file's beginning")
        if position != self._position:
            self._stop()
        self._position = position
        return position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if self._position >= self._size:
            return 0
        if not self._rest:
            if self._blocks is None:
                blocks = self._source.stream(self._name, self._position, self._size - self._position)
                self._blocks = cast(Generator[bytes, None, None], blocks)
            self._rest = memoryview(next(self._blocks))
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        self._position += count
        return count

    def close(self) -> None:
        self._stop()
        super().close()

    def _stop(self) -> None:
        """Give the connection back."""
        if self._blocks is not None:
            self._blocks.close()
        self._blocks, self._rest = None, memoryview(b"")
