"""Reading clips from a store: parts are opened when they are needed, and only so many stay open."""

import os
from collections import OrderedDict
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from cross4d_cache.errors import CacheIncompleteError
from cross4d_cache.patience import ABSENT, is_there, patiently
from cross4d_cache.store.digest import sha256_bytes
from cross4d_cache.store.index import INDEX_FILE, PROJECTION, PROJECTION_FILES, StoreIndex, read_index
from cross4d_cache.store.manifest import METADATA_FILE, PART_NAME, CacheManifest, read_manifest
from cross4d_cache.store.part import check_ids
from cross4d_cache.store.part_reader import MOST_LIST_BYTES, PARTS, Part, PartFiles
from cross4d_cache.store.shard import MOST_CHUNK_BYTES, ArrayMetadata, read_rows
from cross4d_cache.store.storage import Storage, is_remote, open_storage
from cross4d_cache.store.storage.folder import unreadable
from cross4d_cache.store.writer import part_record
from cross4d_cache.types import CachedClip, Camera, SequenceInfo

MOST_OPEN_PARTS = 256
"""Parts that stay open, some hundred kilobytes each."""


class Cache:
    """An open store. Memory holds the listing and the frame tables of the parts that were read last.

    `len(cache)` counts its sequences; `cache.sequences` says what is known of each.
    """

    def __init__(self, storage: Storage, manifest: CacheManifest) -> None:
        self.storage, self.manifest = storage, manifest
        self._parts: OrderedDict[int, Part] = OrderedDict()
        self._first = np.cumsum([0, *(part.num_sequences for part in manifest.parts)])

    def __len__(self) -> int:
        return int(self._first[-1])

    def __bool__(self) -> bool:
        return True  # an open store, also one without sequences

    def __repr__(self) -> str:
        manifest, parts = self.manifest, self.manifest.parts
        frames, points, size = (sum(getattr(part, name) for part in parts) for name in ("num_frames", "num_points", "bytes"))
        targets = f"targets of {manifest.teacher.name}, {manifest.projection.channels} channels, {manifest.render.views} views"
        return (
            f"<Cache {self.storage.place}: {manifest.dataset.name}, {len(self):,} sequences, {frames:,} frames, {points:,} points;"
            f" {targets if any(part.num_rows for part in parts) else 'no targets'}; {size / 1e6:,.0f} MB>"
        )

    @cached_property
    def _index(self) -> StoreIndex | None:
        return read_index(self.storage, self.manifest)

    def part(self, number: int) -> Part:
        """Part `number`, open.

        Raises:
            CacheCorruptError: its metadata or tables differ from what was written.
        """
        if number not in self._parts:
            manifest = self.manifest
            part = Part(self.storage, manifest.parts[number], manifest)
            if self._index is not None and part.infos != self._index.sequences[self._first[number] : self._first[number + 1]]:
                raise self.storage.corrupt(INDEX_FILE, f"it contradicts part {part.record.name}")
            self._parts[number] = part
            if len(self._parts) > MOST_OPEN_PARTS:
                self._parts.popitem(last=False)
        self._parts.move_to_end(number)
        return self._parts[number]

    def _locate(self, index: int) -> tuple[Part, int]:
        if not 0 <= index < self._first[-1]:
            raise IndexError(f"sequence {index} of {self._first[-1]}")
        number = int(np.searchsorted(self._first, index, side="right")) - 1
        return self.part(number), index - int(self._first[number])

    @cached_property
    def sequences(self) -> tuple[SequenceInfo, ...]:
        """All sequences, in store order; without a table of them all, reads a small file of every part.

        Raises:
            CacheCorruptError: a table of sequences differs from the one that was written.
            CacheUnreachableError: it cannot be read now.
        """
        if self._index is not None:
            return self._index.sequences
        parts = self.storage.map(lambda record: PartFiles(self.storage, record).sequences, self.manifest.parts)
        sequences = tuple(info for part in parts for info in part)
        try:
            check_ids(sequences)
        except ValueError as error:
            raise self.storage.corrupt(PARTS, str(error)) from None
        return sequences

    def info(self, index: int) -> SequenceInfo:
        """What is known of sequence `index`; opens the part that holds it and no other.

        Raises:
            CacheCorruptError: the part's metadata differs from what was written.
            IndexError: no such sequence.
        """
        part, local = self._locate(index)
        return part.infos[local]

    def read_clip(self, index: int, frames: Int64[np.ndarray, " frame"], *, targets: bool = True, labels: bool = False) -> CachedClip:
        """Some frames of sequence `index`, with their targets and, if asked for, their labels.

        `frames` are ascending frame numbers, repeats allowed. Each array is read as one range of rows.

        Raises:
            CacheCorruptError: bytes that were read differ from the ones that were written.
            IndexError: no such sequence or frame.
        """
        part, local = self._locate(index)
        if len(frames) == 0 or frames[0] < 0 or frames[-1] >= part.infos[local].num_frames or (np.diff(frames) < 0).any():
            raise IndexError(f"frames {frames} of a sequence of {part.infos[local].num_frames} frames")
        return part.read_clip(local, frames, targets=targets, labels=labels)

    def points(self, index: int) -> list[Float32[np.ndarray, "_ 3"]]:
        """The points of every frame of sequence `index`, metres.

        Raises:
            CacheCorruptError: bytes that were read differ from the ones that were written.
            IndexError: no such sequence.
        """
        clip = self.read_clip(index, np.arange(self.info(index).num_frames), targets=False)
        return np.split(clip.points, clip.point_offsets[1:-1])

    def frame(self, index: int, frame: int) -> CachedClip:
        """One frame of sequence `index` with targets and labels: a clip of one frame.

        Raises:
            CacheCorruptError: bytes that were read differ from the ones that were written.
            IndexError: no such sequence or frame.
        """
        return self.read_clip(index, np.array([frame]), labels=True)

    def cameras(self, index: int, frame: int) -> tuple[Camera, ...]:
        """The cameras that saw a frame of sequence `index`, one a view.

        Raises:
            CacheCorruptError: bytes that were read differ from the ones that were written.
            IndexError: no such sequence or frame.
        """
        part, local = self._locate(index)
        if not 0 <= frame < part.infos[local].num_frames:
            raise IndexError(f"frame {frame} of a sequence of {part.infos[local].num_frames} frames")
        return part.cameras(local, frame)

    def projection(self) -> Float32[np.ndarray, "channel_in channel_out"] | None:
        """The matrix that took teacher channels to target channels, if there was one.

        Raises:
            CacheCorruptError: it differs from the one that was written.
        """
        record, channels = self.manifest.projection, (self.manifest.teacher.channels, self.manifest.projection.channels)
        if record.sha256 is None:
            return None
        try:
            array = ArrayMetadata.parse(self.storage.read_whole(PROJECTION_FILES[0], MOST_LIST_BYTES))
            if array.shape != channels or array.dtype != np.float32:
                raise ValueError(f"a matrix {array.dtype}{array.shape} does not fit the manifest")
            data = self.storage.read_whole(PROJECTION_FILES[1], MOST_LIST_BYTES + MOST_CHUNK_BYTES)
            chunks = array.parse_index(data[array.index_span(len(data)).start :], len(data))
            matrix = read_rows(array, 0, channels[0], lambda _: [data[start : start + size] for start, size in chunks])
        except ValueError as error:
            raise self.storage.corrupt(PROJECTION, f"the matrix cannot be read ({error})") from None
        if sha256_bytes(matrix.tobytes()) != record.sha256:
            raise self.storage.corrupt(PROJECTION, "the matrix differs from the one that was written")
        return matrix


def open_cache(place: Path | str, *, allow_partial: bool = False) -> Cache:
    """Open a store for reading: a folder, a zip, or either at `http://`, `https://` or `s3://`.

    Of a store on another machine only what is asked for is loaded, and kept on this one (`CROSS4D_CACHE_DIR`,
    `CROSS4D_CACHE_GIGABYTES`). With `allow_partial` a store that is still being built in a folder shows the parts that are committed.

    Raises:
        CacheFormatError: no store there, or one of an unknown format version.
        CacheIncompleteError: the build has not finished.
        CacheCorruptError: a committed part of an unfinished store cannot be read.
        CacheUnreachableError: it cannot be read now.
    """
    storage = open_storage(place)
    manifest = read_manifest(storage)
    if not manifest.complete:
        folders = [] if is_remote(place) else _part_folders(Path(place))
        if not allow_partial:
            raise CacheIncompleteError(
                f"{place} is not finished: {len(folders)} of {manifest.plan.num_parts} parts are there",
                hint="run the same `cross4d-cache build` again, or whatever began it (merge, subset, derive, pull), which resumes",
            )
        manifest = manifest.model_copy(update={"parts": tuple(part_record(storage, name, manifest.fingerprint) for name in folders)})
    return Cache(storage, manifest)


def _part_folders(store: Path) -> list[str]:
    try:
        return sorted(name for name in patiently(lambda: os.listdir(store / PARTS)) if PART_NAME.fullmatch(name))
    except OSError as error:
        if error.errno in ABSENT:
            return []
        raise unreadable(str(store / PARTS), error) from None


def stored_projection(path: Path) -> Float32[np.ndarray, "channel_in channel_out"] | None:
    """The matrix of a store that was begun at `path`, finished or not; None if there is none yet.

    Raises:
        CacheFormatError: no store there, but something else, or one of an unknown format version.
        CacheCorruptError: the matrix differs from the one that was written.
        CacheUnreachableError: it cannot be read now.
    """
    try:
        begun = is_there(path / METADATA_FILE) and is_there(path / PROJECTION_FILES[0])
    except OSError as error:
        raise unreadable(str(path), error) from None
    if not begun:
        return None
    storage = open_storage(path)
    return Cache(storage, read_manifest(storage)).projection()
