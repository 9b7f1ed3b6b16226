"""A folder of this machine, or of a file system that is mounted here."""

import os
import stat
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from cross4d_cache.errors import CacheUnreadableError
from cross4d_cache.patience import ABSENT, WRONG, advice, patiently
from cross4d_cache.store.storage.source import BLOCK, Source

Found = TypeVar("Found")


class FolderSource(Source):
    """Plain files below a folder. Links are not followed: a store from elsewhere could lead anywhere by them."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root), is_local=True)
        self.root = root

    @cached_property
    def _real_root(self) -> str:
        return os.path.realpath(self.root, strict=True)

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self._look(name, lambda: self._stat(name)).st_size

    def stamp(self, name: str) -> object:
        """Its size and when it was written."""
        found = self._look(name, lambda: self._stat(name))
        return found.st_size, found.st_mtime_ns

    def stream(self, name: str, start: int, size: int) -> Iterator[bytes]:
        """Exactly `size` bytes of a file from `start`, in blocks."""
        file = _OpenFile(lambda: self._resolve(name))
        try:
            self._look(name, file.open)
            position, end = start, start + size
            while position < end:
                block = self._look(name, partial(file.read, min(BLOCK, end - position), position))
                if not block:
                    raise ValueError(f"the file ends at {position} in place of {end} bytes")
                position += len(block)
                yield block
        finally:
            file.close()

    def names(self) -> list[str]:
        """All files and links, sorted."""
        found = (Path(folder, name) for folder, _, files in os.walk(self.root) for name in files)
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def _look(self, name: str, look: Callable[[], Found]) -> Found:
        """What `look` finds; an error that says nothing of the file is told as one."""
        try:
            return patiently(look)
        except OSError as error:
            if error.errno in ABSENT:
                raise FileNotFoundError(error.errno, error.strerror, name) from None
            if error.errno in WRONG:
                raise ValueError(error.strerror or "no plain file") from None
            raise unreadable(self.path(name), error) from None

    def _stat(self, name: str) -> os.stat_result:
        found = os.lstat(self._resolve(name))
        _check_plain(found)
        return found

    def _resolve(self, name: str) -> str:
        path = self._real_root
        for step in name.split("/"):
            path = f"{path}/{step}"
            if step in ("", ".", "..") or stat.S_ISLNK(os.lstat(path).st_mode):
                raise ValueError("a link, or a name that leads out of the store")
        return path


class _OpenFile:
    """A file that is opened again after an error: a handle that is stale stays stale."""

    def __init__(self, resolve: Callable[[], str]) -> None:
        self._resolve = resolve
        self._descriptor: int | None = None

    def open(self) -> int:
        if self._descriptor is None:
            # Opening must not wait for the other end of a pipe either.
            self._descriptor = os.open(self._resolve(), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            _check_plain(os.fstat(self._descriptor))
        return self._descriptor

    def read(self, size: int, position: int) -> bytes:
        try:
            return os.pread(self.open(), size, position)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def unreadable(place: str, error: OSError) -> CacheUnreadableError:
    """The error for a file that could not be looked at."""
    return CacheUnreadableError(f"{place} could not be read: {error.strerror or type(error).__name__}", hint=advice(error))


def _check_plain(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("no plain file")
