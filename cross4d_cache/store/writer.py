"""Writing a store so that it can be killed at any instant and run again, by several workers at once, without locks.

A part is written aside, flushed, and renamed into place; the manifest that lists the parts is replaced last.
"""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr
from jaxtyping import Float32

from cross4d_cache.errors import CacheCorruptError, CacheIncompleteError, CacheMismatchError, OutputError
from cross4d_cache.record import ABSENT
from cross4d_cache.store.digest import FILE_LIST, names_in, partial_path, partial_paths, sha256_bytes, sweep, sync_folder, sync_tree
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
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path} is a file", expected="a folder, or nothing yet", hint="choose another place")
        present = names_in(path) if path.exists() else set()
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
        try:
            self._begin()
        except OSError as error:
            raise OutputError(f"cannot write to {path}: {error.strerror}", hint="choose another place") from None

    def _begin(self) -> None:
        check_place(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        if (self.path / METADATA_FILE).exists():
            existing = CacheManifest.read(self.path)
            differences = self.manifest.differences(existing)
            if differences:
                raise CacheMismatchError(
                    f"{self.path} was built with other settings:\n    " + "\n    ".join(differences),
                    hint="write to another --out; the store stays readable, and the release that began it can finish it"
                    if any(ABSENT in line for line in differences)  # a rule changed since: nobody should delete a good store for that
                    else f"use the same settings, write to another --out, or delete {self.path}",
                )
            self.manifest = existing
        else:
            self.manifest.write(self.path)
        if not os.access(self.path, os.W_OK):
            raise PermissionError(errno.EACCES, "permission denied")
        make_parts_group(self.path)
        self._write_projection()

    def _write_projection(self) -> None:
        if self._projection is None or (self.path / PROJECTION).exists():
            return
        aside = partial_path(self.path, PROJECTION)
        try:
            write_array(zarr.create_group(aside, zarr_format=3), PROJECTION, self._projection, len(self._projection))
            sync_tree(aside)
            _rename(aside / PROJECTION, self.path / PROJECTION)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    @property
    def complete(self) -> bool:
        """Whether the store is finished."""
        return self.manifest.complete

    def missing(self) -> list[int]:
        """Numbers of the parts that nobody has committed yet."""
        return [n for n in range(self.manifest.plan.num_parts) if not (self.path / PARTS / part_name(n)).exists()]

    def commit(self, number: int, contents: PartContents) -> None:
        """Write part `number` and make it visible in one step; a part that is there already stays.

        Raises:
            OutputError: the disk is full or not writable; nothing half-written stays.
        """
        self.commit_files(number, lambda folder: write_part(folder, contents, self.manifest.fingerprint))

    def commit_files(self, number: int, write: Callable[[Path], None]) -> None:
        """As `commit`, of a part whose files `write` puts into a folder that is not there yet.

        Raises:
            OutputError: the disk is full or not writable; nothing half-written stays.
        """
        aside, target = partial_path(self.path, part_name(number)), self.path / PARTS / part_name(number)
        try:
            write(aside)
            sync_tree(aside)
            _rename(aside, target)
            self._committed.add(target.name)
        except OSError as error:
            if target.exists():  # another worker was first, finished the store, and swept our folder away
                return
            raise OutputError(
                f"cannot write part {part_name(number)} of {self.path}: {error.strerror or error}",
                hint="free some space or mend the permissions; the same command goes on from there",
            ) from None
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def discard(self, name: str) -> None:
        """Remove what `verify` found to be damaged, by the name it has there, so that it is missing and can be made again.

        Raises:
            OutputError: the store cannot be written.
        """
        damaged = self.path / (name if name in (PROJECTION, INDEX_FILE, GROUP_FILE) else f"{PARTS}/{name}")
        aside = partial_path(self.path, damaged.name)
        try:
            if damaged.exists():
                damaged.rename(aside)
                sync_folder(damaged.parent)
        except OSError as error:
            raise OutputError(f"cannot write to {self.path}: {error.strerror}", hint="mend the permissions and run it again") from None
        sweep(aside)

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
        if self._committed or not self.complete or not (self.path / INDEX_FILE).exists():
            self._list_parts()
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


def make_parts_group(store: Path) -> None:
    """The folder of a store's parts, as an empty Zarr group: libraries that walk from the root find them. Readers of ours do not need it.

    Raises:
        OSError: it cannot be written.
    """
    (store / PARTS).mkdir(exist_ok=True)
    group = store / GROUP_FILE
    if not group.exists() or group.read_bytes() != PARTS_GROUP:
        aside = partial_path(store, METADATA_FILE)
        try:
            aside.write_bytes(PARTS_GROUP)
            aside.replace(group)
        except FileNotFoundError:  # another worker finished the store and swept our file away
            if not group.exists():
                raise


def part_record(storage: Storage, name: str, fingerprint: str) -> PartRecord:
    """The manifest's entry of a committed part of the build that `fingerprint` stands for.

    Raises:
        CacheCorruptError: the part cannot be read, or belongs to another build.
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
    except (OSError, ValueError, KeyError, TypeError):
        raise CacheCorruptError(f"{place}: the part cannot be read", hint=hint) from None
    if not belongs:
        raise CacheCorruptError(f"{place}: the part belongs to a build with other settings", hint=hint)
    return record


def _rename(source: Path, target: Path) -> None:
    """Rename a folder into place; where another worker was first, its equal work stays."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    sync_folder(target.parent)
