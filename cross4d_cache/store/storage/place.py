"""Which source an address means."""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, urlsplit

from cross4d_cache.errors import CacheFormatError, SettingsError
from cross4d_cache.patience import ABSENT, WRONG, patiently
from cross4d_cache.store.storage.archive import ArchiveSource
from cross4d_cache.store.storage.blobs import Blobs
from cross4d_cache.store.storage.folder import FolderSource, unreadable
from cross4d_cache.store.storage.source import Source
from cross4d_cache.store.storage.storage import Storage

SCHEMES = ("http", "https", "s3")
ROOT = "zarr.json"
"""The file that every store in a folder has."""
HINT = "pass the folder that `cross4d-cache build --out` wrote, a zip that `cross4d-cache pack` wrote, or where one of them is served"


def is_remote(place: Path | str) -> bool:
    """Whether an address is one of another machine."""
    return "://" in str(place)


def open_storage(place: Path | str, *, wait_minutes: float | None = None) -> Storage:
    """A folder, a zip (any file), or either at `http://`, `https://` or `s3://`; of a web address without `.zip` at its end both are tried.

    A web server that is away is waited for, `wait_minutes` long; None: as `CROSS4D_WAIT_MINUTES` says.

    Raises:
        CacheFormatError: there is nothing, or no zip of a store.
        CacheUnreachableError: it cannot be read now, or the server does not answer with a store.
        SettingsError: an address of another kind, or one that needs an extra that is not installed.
    """
    source = _source(place, wait_minutes)
    return Storage(source, None if source.is_local else Blobs.of_user())


def _source(place: Path | str, wait_minutes: float | None) -> Source:
    if is_remote(place):
        return _of_server(str(place), wait_minutes)
    path = Path(place)
    kind = _kind(path)
    if kind == stat.S_IFREG:
        file = path.resolve()  # a link that the user names is followed, as one to a folder is
        return ArchiveSource(FolderSource(file.parent), file.name)
    if kind == stat.S_IFDIR:
        return FolderSource(path)
    raise CacheFormatError(f"there is no store at {place}", hint=HINT)


def split_address(address: str, schemes: Sequence[str], *, hint: str) -> SplitResult:
    """An address of another machine in its pieces.

    Raises:
        SettingsError: it cannot be read, or begins with another scheme.
    """
    try:
        parts = urlsplit(address)
        named = parts.scheme in schemes and parts.netloc and (parts.scheme == "s3" or parts.port != 0)
    except ValueError as error:
        found = "its port is no number" if "Port" in str(error) else error  # which may be a part of a password
        expected = "as in https://host/store.zarr; in a password, %2F for /, %3F for ?, %23 for #"
        raise SettingsError(f"an address that cannot be read: {found}", expected=expected, hint=hint) from None
    if not named:
        raise SettingsError(f"an address that begins with {parts.scheme}://", expected=f"one of {', '.join(schemes)}", hint=hint)
    return parts


def _of_server(address: str, wait_minutes: float | None) -> Source:
    parts = split_address(address, SCHEMES, hint=HINT)
    path = PurePosixPath(parts.path)
    # Each brings its own libraries, which nobody needs who reads from a disk.
    if parts.scheme == "s3":
        from cross4d_cache.store.storage.bucket import BucketSource

        if "@" in parts.netloc:
            raise SettingsError(f"an address of a bucket with a login: {address}", hint="put keys where AWS' own tools take them from")
        if path.suffix != ".zip":
            return BucketSource(address)
        return _archive(BucketSource(parts._replace(path=str(path.parent)).geturl()), path.name)
    from cross4d_cache.store.storage.web import WebPageError, WebSource

    source = WebSource(address, wait_minutes)
    if path.suffix == ".zip":
        return _archive(source, "")
    try:
        source.size(ROOT)
    except ValueError:  # it is there, and whoever reads it is told what is wrong with it
        pass
    except (FileNotFoundError, WebPageError):
        with suppress(FileNotFoundError, WebPageError):  # there is nothing at all, as reading will tell
            return ArchiveSource(source, "")  # as from a service of downloads, whose addresses end as they like
    return source


def _archive(source: Source, name: str) -> ArchiveSource:
    try:
        return ArchiveSource(source, name)
    except FileNotFoundError as error:
        raise absent(source.path(name), error) from None


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
    login = "; if it needs a login, put yours into ~/.netrc, or a token into CROSS4D_TOKEN"
    return CacheFormatError(
        f"there is no store at {place}{said}",
        expected="the address of a folder that holds zarr.json, or of a zip",
        hint=f"look at the address{login if '403' in said else ''}",
    )
