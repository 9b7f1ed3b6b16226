"""Files that are there whole or not at all: written aside, flushed, renamed into place."""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_PARTIAL_NAME = re.compile(r"\..+\.[0-9a-f]{16}\.partial", re.DOTALL)

CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.ENOSYS)
"""What file systems answer that cannot flush; all else means that bytes may be lost."""
LEFT_BY_SYSTEMS = re.compile(
    r"\.DS_Store|\._.*|Thumbs\.db|desktop\.ini|\.directory|@eaDir|\.nfs[0-9a-f]+|lost\+found|\.snapshot", re.DOTALL
)
"""Names that file managers and file systems put into folders by themselves."""


def partial_path(folder: Path, name: str) -> Path:
    """Where to write `name` aside: a path that no other process, on any machine, will choose."""
    return folder / f".{name}.{secrets.token_hex(8)}.partial"


def partial_paths(folder: Path) -> Iterator[Path]:
    """What is being written aside in a folder, or was left there by killed processes."""
    return (path for path in folder.iterdir() if is_partial(path.name))


def is_partial(name: str) -> bool:
    """Whether a name is one that `partial_path` gives."""
    return _PARTIAL_NAME.fullmatch(name) is not None


def names_in(folder: Path) -> set[str]:
    """What somebody put into a folder: neither what is written aside there, nor what file managers and file systems leave."""
    # One look at the folder: another worker may be starting the same store, or may have been killed while it did.
    names = {entry.name for entry in folder.iterdir()}
    return {name for name in names if not _PARTIAL_NAME.fullmatch(name) and not LEFT_BY_SYSTEMS.fullmatch(name)}


def sweep(path: Path) -> None:
    """Remove a file or a folder, if it is there and can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file aside, flush it to the disk, then rename it into place: readers see the old or the new file, never a part."""
    partial = partial_path(path.parent, path.name)
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            flush(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def flush(descriptor: int) -> None:
    """Flush a file or a folder to the disk, where its file system can: CIFS and sshfs cannot flush folders, and writing goes on."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_FLUSH:
            raise


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives a power cut."""
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path, flushers: ThreadPoolExecutor | None = None) -> None:
    """Flush every file and folder below `folder`, many at a time: most disks take about as long for sixteen as for one.

    `flushers` are threads of somebody who does so often. A file that has several links is left out: whoever wrote it, for another store,
    has flushed it.
    """
    if flushers is None:
        with make_flushers() as own:
            return sync_tree(folder, own)
    paths = []
    for root, _, names in os.walk(folder):
        files = (Path(root) / name for name in names)
        paths += [Path(root), *(file for file in files if file.stat().st_nlink <= 1)]  # some systems count none
    for _ in flushers.map(_sync, paths):
        pass


def make_flushers() -> ThreadPoolExecutor:
    """Threads for `sync_tree`."""
    return ThreadPoolExecutor(16)
