"""A store as one file that can be read in place: a zip whose members are stored, not compressed, as their chunks are compressed already."""

import stat
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cross4d_cache.durable import flush, partial_path, partial_paths, sync_folder
from cross4d_cache.errors import OutputError
from cross4d_cache.store import Cache, CacheManifest, open_cache
from cross4d_cache.store.index import INDEX_FILE, MOST_INDEX_BYTES, PROJECTION_FILES, read_index
from cross4d_cache.store.manifest import METADATA_FILE, read_root
from cross4d_cache.store.part_reader import GROUP_FILE, PARTS_GROUP, PartFiles
from cross4d_cache.work import Stage, Work, steps

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every member: the same store gives the same bytes."""


def pack(store: Path | str, out: Path) -> Work[int]:
    """A finished store as the zip `out`; returns its size in bytes.

    Raises:
        CacheError: the store cannot be used.
        OutputError: as `Pack`.
    """
    run = Pack(open_cache(store), out)
    yield from steps(Stage(name="pack", unit="B", total=run.total), run.run())
    return out.stat().st_size


class Pack:
    """A finished store as a zip at `out`, which appears when it is whole.

    Raises:
        OutputError: `out` is there already, or cannot be written.
    """

    def __init__(self, cache: Cache, out: Path) -> None:
        self._cache, self.out = cache, out
        if out.suffix != ".zip":
            raise OutputError(f"cannot pack into {out}", expected="a file name that ends in .zip", hint="choose another name")
        if out.exists():
            raise OutputError(f"{out} is there already", hint="choose another name, or remove it")
        if not out.parent.is_dir():
            raise OutputError(f"cannot write {out}: there is no folder {out.parent}", hint="make the folder")

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(part.bytes for part in self._cache.manifest.parts)

    def run(self) -> Iterator[int]:
        """Write the zip; yields how many bytes are done.

        Raises:
            CacheCorruptError: a file of the store differs from the one that was written.
            OutputError: the disk is full or not writable; nothing stays.
        """
        aside = partial_path(self.out.parent, self.out.name)
        try:
            for leftover in partial_paths(self.out.parent):  # of killed processes
                if leftover.name.startswith(f".{self.out.name}."):
                    leftover.unlink(missing_ok=True)
            with aside.open("xb") as file:
                with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                    yield from self._write(archive)
                file.flush()
                flush(file.fileno())
            aside.rename(self.out)
            sync_folder(self.out.parent)
        except OSError as error:
            raise OutputError(
                f"cannot write {self.out}: {error.strerror or error}", hint="free some space or choose another place"
            ) from None
        finally:
            with suppress(OSError):
                aside.unlink()

    def _write(self, archive: zipfile.ZipFile) -> Iterator[int]:
        cache, done = self._cache, 0
        for name, data in self._root_files().items():
            archive.writestr(_member(name, len(data)), data)
        for record in cache.manifest.parts:
            part = PartFiles(cache.storage, record)
            for file in (part.listing, *part.files.values()):
                with archive.open(_member(file.name, file.bytes), "w", force_zip64=file.bytes >= zipfile.ZIP64_LIMIT) as member:
                    for block in cache.storage.stream(file):
                        member.write(block)
            done += record.bytes
            yield done

    def _root_files(self) -> dict[str, bytes]:
        """What belongs to no part, checked; an index that is none of this store's is left out."""
        cache, storage = self._cache, self._cache.storage
        root = read_root(storage)
        if CacheManifest.parse(root, storage.place).checksum != cache.manifest.checksum:
            raise storage.corrupt(METADATA_FILE, "the file was replaced while the store was open")
        indexed = read_index(storage, cache.manifest) is not None
        projected = cache.projection() is not None
        names = [*([INDEX_FILE] if indexed else []), *(PROJECTION_FILES if projected else ())]
        return {METADATA_FILE: root, GROUP_FILE: PARTS_GROUP} | {name: storage.read_whole(name, MOST_INDEX_BYTES) for name in names}


def _member(name: str, size: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, EPOCH)
    info.external_attr, info.file_size = (stat.S_IFREG | 0o644) << 16, size
    return info
