"""Writing a store so that it can be killed at any instant and run again, by several workers at once, without locks.

A part is written aside, flushed, and renamed into place; the manifest that lists the parts is replaced last.
"""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from cross4d_cache.durable import make_flushers, names_in, partial_path, partial_paths, sweep, sync_folder, sync_tree
from cross4d_cache.errors import CacheCorruptError, CacheIncompleteError, CacheMismatchError, OutputError
from cross4d_cache.patience import advice, is_there, patiently
from cross4d_cache.record import ABSENT
from cross4d_cache.store.digest import FILE_LIST, sha256_bytes
from cross4d_cache.store.index import INDEX_FILE, PROJECTION, write_index
from cross4d_cache.store.manifest import METADATA_FILE, CacheManifest, PartRecord, part_name
from cross4d_cache.store.part import PartContents, parse_part_attributes, write_array, write_part
from cross4d_cache.store.part_reader import GROUP_FILE, MOST_LIST_BYTES, PARTS, PARTS_GROUP, PartFiles, parse_file_list
from cross4d_cache.store.storage import Storage, open_storage


def check_place(path: Path) -> None:
    """See whether a store may be written at `path`; nothing is created.

    Raises:
        OutputError: it is a file, holds something else, or cannot be looked at.
    """
    try:
        there = is_there(path)
        if there and not patiently(path.is_dir):
            raise OutputError(f"{path} is a file", expected="a folder, or nothing yet", hint="choose another place")
        present = patiently(lambda: names_in(path)) if there else set()
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror}", hint="choose another place") from None
    if present and METADATA_FILE not in present:
        raise OutputError(
            f"{path} holds files that are not a store",
            expected="an empty folder, a store, or nothing yet",
            hint="choose another place",
        )


class CacheWriter:
    """Builds the store that `manifest` describes at `path`, going on with what an earlier run committed there.

    Raises:
        OutputError: the path is a file, holds something else, or cannot be written.
        CacheMismatchError: a store with other settings is there.
    """

    def __init__(self, path: Path, manifest: CacheManifest, projection: Float32[np.ndarray, "channel_in channel_out"] | None) -> None:
        self.path, self.manifest, self._projection = path, manifest, projection
        self._committed: set[str] = set()
        self._damaged: set[str] = set()
        self._flushers = make_flushers()
        self.first = False
        """Whether this writer began the store, and not an earlier or another one."""
        try:
            self._begin()
        except OSError as error:
            raise OutputError(f"cannot write to {path}: {error.strerror}", hint="choose another place") from None

    def _begin(self) -> None:
        check_place(self.path)
        make_folder(self.path)
        if is_there(self.path / METADATA_FILE):
            existing = CacheManifest.read(self.path)
            differences = self.manifest.differences(existing)
            if differences:
                raise CacheMismatchError(
                    f"{self.path} was built with other settings:",
                    details=differences,
                    hint="write to another `out`; the store stays readable, and the release that began it can finish it"
                    if any(ABSENT in line for line in differences)  # a rule changed since: nobody should delete a good store for that
                    else f"use the same settings, write to another `out`, or delete {self.path}",
                )
            self.manifest = existing
        else:
            self.manifest.write(self.path)
        if not os.access(self.path, os.W_OK):
            raise PermissionError(errno.EACCES, "permission denied")
        self.first = make_folder(self.path / PARTS)
        make_parts_group(self.path)
        self._write_projection()

    def _write_projection(self) -> None:
        target = self.path / PROJECTION
        if self._projection is None or self._is_whole(target):
            return
        aside = partial_path(self.path, PROJECTION)
        try:
            write_array(aside, PROJECTION, self._projection, len(self._projection))
            sync_tree(aside, self._flushers)
            self._place(aside / PROJECTION, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _is_whole(self, folder: Path) -> bool:
        """Whether a part, or the projection, is there and was not found to be damaged. A folder that holds only strays is none."""
        last_written = METADATA_FILE if folder.name == PROJECTION else FILE_LIST
        return folder.name not in self._damaged and is_there(folder / last_written)

    def _place(self, source: Path, target: Path) -> bool:
        """Rename a folder into place, unless another is there. Only now, when it is whole, is what lies there and is not taken away."""
        old = partial_path(self.path, target.name)
        try:
            if is_there(target) and not self._is_whole(target):
                target.rename(old)
            return _rename(source, target)
        finally:
            if old.exists() and not target.exists():
                old.rename(target)
            sweep(old)

    @property
    def complete(self) -> bool:
        """Whether the store is finished."""
        return self.manifest.complete

    def missing(self) -> list[int]:
        """Numbers of the parts that nobody has committed yet, or that are to be made anew.

        Raises:
            OutputError: the store cannot be looked at.
        """
        try:
            return [number for number in range(self.manifest.plan.num_parts) if not self._has(number)]
        except OSError as error:
            raise self._unseen(error) from None

    def has(self, number: int) -> bool:
        """Whether a part is committed, by this writer or another one, and not to be made anew.

        Raises:
            OutputError: the store cannot be looked at.
        """
        try:
            return self._has(number)
        except OSError as error:
            raise self._unseen(error) from None

    def _has(self, number: int) -> bool:
        return self._is_whole(self.path / PARTS / part_name(number))

    def _unseen(self, error: OSError) -> OutputError:
        return OutputError(f"{self.path} cannot be looked at: {error.strerror}", hint=advice(error))

    def commit(self, number: int, contents: PartContents) -> bool:
        """Write part `number` and make it visible in one step; a part that is there already stays. Whether this writer was the first.

        Raises:
            OutputError: the disk is full or not writable; nothing half-written stays.
        """
        return self.commit_files(number, lambda folder: write_part(folder, contents, self.manifest.fingerprint))

    def commit_files(self, number: int, write: Callable[[Path], None]) -> bool:
        """As `commit`, of a part whose files `write` puts into a folder that is not there yet.

        Raises:
            OutputError: the disk is full or not writable; nothing half-written stays.
        """
        aside, target = partial_path(self.path, part_name(number)), self.path / PARTS / part_name(number)
        try:
            write(aside)
            sync_tree(aside, self._flushers)
            was_first = self._place(aside, target)
            self._committed.add(target.name)
            self._damaged.discard(target.name)
        except OSError as error:
            swept = error.errno == errno.ENOENT  # by another worker, which was first and finished the store
            if is_there(target / FILE_LIST) and (swept or target.name not in self._damaged):
                self._damaged.discard(target.name)
                return False
            raise OutputError(
                f"cannot write part {part_name(number)} of {self.path}: {error.strerror or error}",
                hint="free some space or fix the permissions; the same command resumes there",
            ) from None
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return was_first

    def renew(self, name: str) -> None:
        """Have what `verify` found to be damaged made again, by the name it has there. Until its replacement is whole it stays."""
        self._damaged.add(name)

    def finish(self) -> CacheManifest:
        """List the parts in the manifest, mark the store complete, and sweep up what killed processes left.

        A complete store keeps its list, except for parts that were deleted and have been built again.

        Raises:
            CacheIncompleteError: parts are still missing.
            CacheCorruptError: a part cannot be read, or belongs to another build.
            OutputError: the manifest cannot be written.
        """
        missing = self.missing()
        if missing:
            raise CacheIncompleteError(f"{len(missing)} parts of {self.path} are missing", hint="run the same build again")
        try:
            make_parts_group(self.path)
            self._write_projection()
        except OSError as error:
            raise OutputError(f"cannot write to {self.path}: {error.strerror}", hint="run the same again") from None
        if self._committed or self._damaged or not self.complete or not is_there(self.path / INDEX_FILE):
            self._list_parts()
            self._damaged.clear()
        for leftover in partial_paths(self.path):
            sweep(leftover)
        return self.manifest

    def _list_parts(self) -> None:
        known = {part.name: part for part in self.manifest.parts if part.name not in self._committed}
        names = [part_name(number) for number in range(self.manifest.plan.num_parts)]
        storage = open_storage(self.path)
        parts = tuple(known.get(name) or part_record(storage, name, self.manifest.fingerprint) for name in names)
        self.manifest = self.manifest.model_copy(update={"complete": True, "parts": parts})
        sequences = [info for record in parts for info in PartFiles(storage, record).sequences]
        try:
            write_index(self.path, self.manifest, sequences)
            self.manifest.write(self.path)
        except OSError as error:
            if not CacheManifest.read(self.path).complete:  # else another worker finished the store and swept our file away
                raise OutputError(f"cannot write to {self.path}: {error.strerror}", hint="run the same build again") from None


def make_folder(path: Path) -> bool:
    """A folder, with those above it, unless it is there. Of several workers that want it, one hears that it has made it.

    Raises:
        OSError: it cannot be made.
    """
    if is_there(path):
        return False
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        if not path.is_dir():
            raise
        return False
    return True


def make_parts_group(store: Path) -> None:
    """The folder of a store's parts, as an empty Zarr group: libraries that walk from the root find them. Readers of ours do not need it.

    Raises:
        OSError: it cannot be written.
    """
    make_folder(store / PARTS)
    group = store / GROUP_FILE
    if not is_there(group) or patiently(group.read_bytes) != PARTS_GROUP:
        aside = partial_path(store, METADATA_FILE)
        try:
            aside.write_bytes(PARTS_GROUP)
            aside.replace(group)
        except FileNotFoundError:  # another worker finished the store and swept our file away
            if not is_there(group):
                raise


def part_record(storage: Storage, name: str, fingerprint: str) -> PartRecord:
    """The manifest's entry of a committed part of the build that `fingerprint` stands for.

    Raises:
        CacheCorruptError: the part is damaged, or belongs to another build.
        CacheUnreachableError: it cannot be read now.
    """
    folder = f"{PARTS}/{name}"
    place = storage.source.path(folder)
    hint = f"delete {place} and run the same build again"
    try:
        attributes = parse_part_attributes(storage.source.whole(f"{folder}/{METADATA_FILE}", MOST_LIST_BYTES))
        listing = storage.source.whole(f"{folder}/{FILE_LIST}", MOST_LIST_BYTES)
        size = len(listing) + sum(file.bytes for file in parse_file_list(listing).values())
        counts = {key: attributes[key] for key in PartRecord.model_fields if key.startswith("num_")}
        record = PartRecord(name=name, bytes=size, sha256=sha256_bytes(listing), **counts)
        belongs = attributes["fingerprint"] == fingerprint
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        raise CacheCorruptError(f"{place}: the part cannot be read", hint=hint) from None
    if not belongs:
        raise CacheCorruptError(f"{place}: the part belongs to a build with other settings", hint=hint)
    return record


def _rename(source: Path, target: Path) -> bool:
    """Rename a folder into place; where another worker was first, its equal work stays."""
    try:
        source.rename(target)
        was_first = True
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        was_first = False
    sync_folder(target.parent)
    return was_first
