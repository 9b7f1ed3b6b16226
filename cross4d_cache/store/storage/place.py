"""Which source an address means."""

import os
import stat
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from cross4d_cache.errors import CacheFormatError, SettingsError
from cross4d_cache.patience import ABSENT, WRONG, patiently
from cross4d_cache.store.storage.archive import ArchiveSource
from cross4d_cache.store.storage.blobs import Blobs
from cross4d_cache.store.storage.folder import FolderSource, unreadable
from cross4d_cache.store.storage.source import Source
from cross4d_cache.store.storage.storage import Storage

SCHEMES = ("http", "https", "s3")
HINT = "pass the folder that `cross4d-cache build --out` wrote, a zip that `cross4d-cache pack` wrote, or where one of them is served"


def is_remote(place: Path | str) -> bool:
    """Whether an address is one of another machine."""
    return "://" in str(place)


def open_storage(place: Path | str) -> Storage:
    """A folder, a zip (`.zip`, or any file), or either at `http://`, `https://` or `s3://`.

    Raises:
        CacheFormatError: there is nothing, or no zip of a store.
        CacheUnreachableError: it cannot be read now.
        SettingsError: an address of another kind, or one that needs an extra that is not installed.
    """
    source = _source(place)
    return Storage(source, None if source.is_local else Blobs.of_user())


def _source(place: Path | str) -> Source:
    if not is_remote(place):
        path = Path(place)
        kind = _kind(path)
        if kind == stat.S_IFREG:
            file = path.resolve()  # a link that the user names is followed, as one to a folder is
            return ArchiveSource(FolderSource(file.parent), file.name)
        if kind == stat.S_IFDIR:
            return FolderSource(path)
        raise CacheFormatError(f"there is no store at {place}", hint=HINT)
    try:
        parts = urlsplit(str(place))
    except ValueError as error:
        raise SettingsError(f"an address that cannot be read: {error}", expected="as in https://host/store.zarr", hint=HINT) from None
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise SettingsError(f"an address that begins with {parts.scheme}://", expected=f"one of {', '.join(SCHEMES)}", hint=HINT)
    path_ = PurePosixPath(parts.path)
    if path_.suffix != ".zip":
        return _server(str(place))
    server = _server(parts._replace(path=str(path_.parent)).geturl())
    try:
        return ArchiveSource(server, path_.name)
    except FileNotFoundError as error:
        raise absent(server.path(path_.name), error) from None


def _kind(path: Path) -> int | None:
    """The kind of file that lies at a place, None if there is none."""
    try:
        return stat.S_IFMT(patiently(lambda: os.stat(path)).st_mode)
    except OSError as error:
        if error.errno in ABSENT:
            return None
        if error.errno in WRONG:
            raise CacheFormatError(f"{path} cannot be looked at: {error.strerror}", hint=HINT) from None
        raise unreadable(str(path), error) from None
    except ValueError as error:
        raise CacheFormatError(f"{path} cannot be looked at: {error}", hint=HINT) from None


def absent(place: str, error: OSError) -> CacheFormatError:
    """The error for a place on another machine where there is nothing, with what its server says of that."""
    said = f": {error.strerror}" if error.strerror else ""
    login = "; if it needs a login, write it into the address (https://user:password@host/...)"
    return CacheFormatError(
        f"there is no store at {place}{said}",
        expected="the address of a folder that holds zarr.json, or of a zip",
        hint=f"look at the address{login if '403' in said else ''}",
    )


def _server(url: str) -> Source:
    # Each brings its own libraries, which nobody needs who reads from a disk.
    if urlsplit(url).scheme == "s3":
        from cross4d_cache.store.storage.bucket import BucketSource

        return BucketSource(url)
    from cross4d_cache.store.storage.web import WebSource

    return WebSource(url)
