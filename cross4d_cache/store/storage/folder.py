"""A folder of this machine, or of a file system that is mounted here."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from cross4d_cache.store.storage.source import BLOCK, Source


class FolderSource(Source):
    """Plain files below a folder. Links are not followed: a store from elsewhere could lead anywhere by them."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root), is_local=True)
        self.root = root
        self._real_root = os.path.realpath(root)

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self._stat(name).st_size

    def stamp(self, name: str) -> object:
        """Its size and when it was written."""
        found = self._stat(name)
        return found.st_size, found.st_mtime_ns

    def stream(self, name: str, start: int, size: int) -> Iterator[bytes]:
        """Exactly `size` bytes of a file from `start`, in blocks."""
        # Opening must not wait for the other end of a pipe either.
        descriptor = os.open(self._resolve(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _check_plain(os.fstat(descriptor))
            position, end = start, start + size
            while position < end:
                block = os.pread(descriptor, min(BLOCK, end - position), position)
                if not block:
                    raise ValueError(f"the file ends at {position} in place of {end} bytes")
                position += len(block)
                yield block
        finally:
            os.close(descriptor)

    def names(self) -> list[str]:
        """All files and links, sorted."""
        found = (Path(folder, name) for folder, _, files in os.walk(self.root) for name in files)
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def _stat(self, name: str) -> os.stat_result:
        found = os.lstat(self._resolve(name))
        _check_plain(found)
        return found

    def _resolve(self, name: str) -> str:
        path = os.path.join(self._real_root, name)
        if os.path.realpath(path) != path:
            raise ValueError("a link, or a name that leads out of the store")
        return path


def _check_plain(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("no plain file")
