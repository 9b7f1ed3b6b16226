"""Where bytes come from: the files of a folder, the members of a zip, the objects of a server."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any

BLOCK = 2**20
"""Bytes that are handed on at a time."""
CONNECTIONS = 16
"""Requests to another machine at a time."""
STOPPING = 0.05
"""Seconds after which what waits for a server is stopped once more."""


class Source(ABC):
    """Files by their relative names, with forward slashes. Nothing that it says or gives is trusted by those who read.

    `is_local` says that small reads are cheap, and that a copy on this machine would gain nothing.
    """

    def __init__(self, place: str, *, is_local: bool = False) -> None:
        self.place, self.is_local = place, is_local

    def path(self, name: str) -> str:
        """What messages call a file."""
        return f"{self.place}/{name}"

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of a file.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is no plain file of this source.
            CacheUnreachableError: it cannot be read now, which says nothing of what is there.
        """

    @abstractmethod
    def stream(self, name: str, start: int, size: int) -> Iterator[bytes]:
        """Exactly `size` bytes of a file from `start`, in blocks.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is shorter, or is no plain file of this source.
            CacheUnreachableError: it cannot be read now, which says nothing of what is there.
        """

    @abstractmethod
    def names(self) -> list[str] | None:
        """All files, sorted; None where they cannot be listed."""

    def stamp(self, name: str) -> object:
        """Something that changes if the file is replaced, where that can be told without reading it.

        Raises:
            FileNotFoundError: it is gone.
        """
        return None

    def stop(self) -> None:  # noqa: B027  # only servers are waited for
        """End all reads that wait for a server; those that begin later are not concerned."""

    def end(self, futures: Iterable[Future[Any]]) -> None:
        """End work of other threads that reads from here. One may begin to wait for a server just after a stop: so it is stopped again."""
        left = [future for future in futures if not future.cancel()]
        while not all(future.done() for future in left):
            self.stop()
            time.sleep(STOPPING)

    def read(self, name: str, start: int, size: int) -> bytes:
        """`stream` as one piece."""
        blocks = list(self.stream(name, start, size))
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def whole(self, name: str, most: int) -> bytes:
        """A file whose size is not known beforehand.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it has more than `most` bytes, or is no plain file of this source.
            CacheUnreachableError: it cannot be read now, which says nothing of what is there.
        """
        size = self.size(name)
        if size > most:
            raise ValueError(f"{size} bytes are more than the {most} it may have")
        return self.read(name, 0, size)
