"""Reading clips from a store, lazily and checked: bytes that differ from the written ones raise, they never become numbers."""

from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import zarr
from jaxtyping import Float16, Float32, Float64, Int32, Int64, Shaped, UInt16
from pydantic import TypeAdapter, ValidationError

from cross4d_cache.errors import CacheCorruptError, CacheIncompleteError
from cross4d_cache.store import quantize
from cross4d_cache.store.digest import FILE_LIST, FileRecord, sha256_bytes, sha256_file
from cross4d_cache.store.manifest import CacheManifest, PartRecord
from cross4d_cache.store.part import CHUNK_ROWS, NOT_VISIBLE, read_part_attributes, read_sequences, rust_codecs
from cross4d_cache.store.writer import PARTS, PROJECTION, part_record
from cross4d_cache.types import CachedClip, Camera, SequenceInfo

_FILE_LIST = TypeAdapter(dict[str, FileRecord])


def _corrupt(path: Path, what: str) -> CacheCorruptError:
    return CacheCorruptError(f"{path}: {what}", hint="run `cross4d-cache verify` on the store; copy or build the damaged part again")


def read_file_list(folder: Path, sha256: str) -> dict[str, FileRecord]:
    """The checked list of a part's files.

    Raises:
        CacheCorruptError: the list is missing or differs from the one that was committed.
    """
    path = folder / FILE_LIST
    try:
        data = path.read_bytes()
        if sha256_bytes(data) != sha256:
            raise _corrupt(path, "the list of files differs from the one that was written")
        files = _FILE_LIST.validate_json(data)
    except (OSError, ValidationError):
        raise _corrupt(path, "the list of files cannot be read") from None
    for name in files:
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise _corrupt(path, f"the list of files leads out of the store, to {name!r}")
    return files


class Part:
    """One open part: checked metadata, frame tables in memory, everything else read by row ranges."""

    def __init__(self, folder: Path, record: PartRecord) -> None:
        self.folder, self.record = folder, record
        self._files = read_file_list(folder, record.sha256)
        for name in self._files:
            self._check_size(name)
            if name.endswith("zarr.json"):
                self._check_hash(name)
        with rust_codecs():
            group = zarr.open_group(folder, mode="r", zarr_format=3)
            self._arrays: dict[str, zarr.Array[Any]] = {name: group[name] for name in CHUNK_ROWS if f"{name}/zarr.json" in self._files}  # type: ignore[misc]
        absent = CHUNK_ROWS.keys() - self._arrays.keys() - {"part_labels", "surface_ids"}
        if absent:
            raise _corrupt(folder, f"these arrays are missing: {', '.join(sorted(absent))}")
        try:
            self.sequences: tuple[SequenceInfo, ...] = read_sequences(read_part_attributes(folder))
        except (OSError, ValueError, KeyError, TypeError):
            raise _corrupt(folder, "its table of sequences cannot be read") from None
        self.first_frames: Int64[np.ndarray, " boundary"] = np.cumsum([0, *(info.num_frames for info in self.sequences)], dtype=np.int64)
        self._check_tables()

    def _check_size(self, name: str) -> None:
        path, expected = self.folder / name, self._files[name].bytes
        found = path.stat().st_size if path.is_file() else None
        if found != expected:
            raise _corrupt(path, "the file is missing" if found is None else f"the file has {found} bytes instead of {expected}")

    def _check_hash(self, name: str) -> None:
        path = self.folder / name
        try:
            intact = sha256_file(path) == self._files[name].sha256
        except OSError:
            intact = False
        if not intact:
            raise _corrupt(path, "its bytes differ from the ones that were written")

    def _check_tables(self) -> None:
        lengths = {name: array.shape[0] for name, array in self._arrays.items()}
        record, tables = self.record, (self.point_offsets, self.feature_offsets)
        consistent = (
            all(table[0] == 0 and (np.diff(table) >= 0).all() for table in tables)
            and self.first_frames[-1] == len(self.frame_tubelet) == len(self.point_offsets) - 1 == record.num_frames
            and self.point_offsets[-1] == lengths["points"] == lengths["patch_slot"] == record.num_points
            and self.feature_offsets[-1] == lengths["features"] == lengths["feature_patch"] == record.num_rows
            and len(self.feature_offsets) - 1 == lengths["frame_features"]
            and 0 <= self.frame_tubelet.min(initial=0) <= self.frame_tubelet.max(initial=0) < max(lengths["frame_features"], 1)
            and len(self.sequences) == lengths["boxes"] == lengths["intrinsics"] == lengths["world_to_camera"] == record.num_sequences
            and all(lengths[name] == record.num_points for name in ("part_labels", "surface_ids") if name in lengths)
        )
        if not consistent:
            raise _corrupt(self.folder, "its tables contradict one another")

    def rows(self, name: str, start: int, stop: int) -> Shaped[np.ndarray, "row ..."]:
        """Rows `start` to `stop` of an array.

        Raises:
            CacheCorruptError: a chunk fails its checksum, or its file vanished.
        """
        try:
            values = np.asarray(self._arrays[name][start:stop])
        except (OSError, RuntimeError, ValueError) as error:
            raise _corrupt(self.folder / name, f"a chunk cannot be read ({str(error).splitlines()[0]})") from None
        # zarr answers a missing file with fill values, so the file must still be there after the read.
        for file in self._chunk_files(name):
            self._check_size(file)
        return values

    def _chunk_files(self, name: str) -> list[str]:
        return [file for file in self._files if file.startswith(f"{name}/c/")]

    def has(self, name: str) -> bool:
        """Whether the part holds an optional array."""
        return name in self._arrays

    def _table(self, name: str) -> Shaped[np.ndarray, "row ..."]:
        """A whole array that is small; its file is hashed, so that not even another part's file passes for it."""
        values = self.rows(name, 0, self._arrays[name].shape[0])
        for file in self._chunk_files(name):
            self._check_hash(file)
        return values

    @cached_property
    def point_offsets(self) -> Int64[np.ndarray, " boundary"]:
        """First point of every frame, and the end."""
        return self._table("point_offsets")

    @cached_property
    def feature_offsets(self) -> Int64[np.ndarray, " boundary"]:
        """First feature row of every tubelet, and the end."""
        return self._table("feature_offsets")

    @cached_property
    def frame_tubelet(self) -> Int64[np.ndarray, " frame"]:
        """Tubelet of every frame."""
        return self._table("frame_tubelet")

    @cached_property
    def boxes(self) -> Float64[np.ndarray, "sequence 2 3"]:
        """Fixed-point grid of every sequence."""
        return self._table("boxes")

    @cached_property
    def intrinsics(self) -> Float64[np.ndarray, "sequence view 3 3"]:
        """Camera matrices of every sequence, pixels."""
        return self._table("intrinsics")

    @cached_property
    def world_to_camera(self) -> Float64[np.ndarray, "sequence view 4 4"]:
        """Poses of the cameras of every sequence, metres."""
        return self._table("world_to_camera")

    def read_clip(self, sequence: int, frames: Int64[np.ndarray, " frame"], *, targets: bool, labels: bool) -> CachedClip:
        """`Cache.read_clip` of a sequence of this part."""
        info = self.sequences[sequence]
        part_frames = self.first_frames[sequence] + frames
        first, last = int(part_frames[0]), int(part_frames[-1])
        start, stop = int(self.point_offsets[first]), int(self.point_offsets[last + 1])
        pick, offsets = _ragged_rows(self.point_offsets, part_frames, start)
        points = quantize.decode(self.rows("points", start, stop)[pick], self.boxes[sequence])

        def label(name: str) -> Shaped[np.ndarray, " point"] | None:
            return self.rows(name, start, stop)[pick] if labels and self.has(name) else None

        return CachedClip(
            info=info,
            frames=frames,
            points=points,
            point_offsets=offsets,
            part_labels=label("part_labels"),
            surface_ids=label("surface_ids"),
            **(self._targets(part_frames, start, stop, pick, offsets) if targets else _no_targets(len(points), len(frames))),
        )

    def _targets(
        self,
        part_frames: Int64[np.ndarray, " frame"],
        start: int,
        stop: int,
        pick: slice | Int64[np.ndarray, " point"],
        offsets: Int64[np.ndarray, " boundary"],
    ) -> dict[str, Any]:
        tubelets = self.frame_tubelet[part_frames]
        first_tubelet, last_tubelet = int(tubelets.min()), int(tubelets.max())
        first_row, last_row = int(self.feature_offsets[first_tubelet]), int(self.feature_offsets[last_tubelet + 1])
        slots = self.rows("patch_slot", start, stop)[pick].astype(np.int32)
        table = np.repeat(self.feature_offsets[tubelets] - first_row, np.diff(offsets)).astype(np.int32)
        return {
            "rows": np.where(slots == NOT_VISIBLE, np.int32(-1), slots + table[:, None]),
            "features": self.rows("features", first_row, last_row),
            "patches": self.rows("feature_patch", first_row, last_row),
            "frame_features": self.rows("frame_features", first_tubelet, last_tubelet + 1)[tubelets - first_tubelet],
        }


def _ragged_rows(
    all_offsets: Int64[np.ndarray, " part_boundary"], frames: Int64[np.ndarray, " frame"], origin: int
) -> tuple[slice | Int64[np.ndarray, " point"], Int64[np.ndarray, " boundary"]]:
    """Rows (counted from `origin`) of the points of some frames, and where each frame begins among them."""
    starts, counts = all_offsets[frames] - origin, all_offsets[frames + 1] - all_offsets[frames]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    if (np.diff(frames) == 1).all():
        return slice(None), offsets  # a copy of every row would cost as much as decoding them
    return np.arange(offsets[-1], dtype=np.int64) + np.repeat(starts - offsets[:-1], counts), offsets


def _no_targets(num_points: int, num_frames: int) -> dict[str, Any]:
    rows: Int32[np.ndarray, "point 0"] = np.empty((num_points, 0), np.int32)
    features: Float16[np.ndarray, "0 0"] = np.empty((0, 0), np.float16)
    patches: UInt16[np.ndarray, 0] = np.empty(0, np.uint16)
    return {"rows": rows, "features": features, "patches": patches, "frame_features": np.empty((num_frames, 0), np.float16)}


class Cache:
    """An open store. Parts are opened when first touched; memory holds frame tables only."""

    def __init__(self, path: Path, manifest: CacheManifest) -> None:
        self.path, self.manifest = path, manifest
        self._parts: dict[int, Part] = {}
        self._first = np.cumsum([0, *(part.num_sequences for part in manifest.parts)])

    def _part(self, number: int) -> Part:
        if number not in self._parts:
            record = self.manifest.parts[number]
            self._parts[number] = Part(self.path / PARTS / record.name, record)
        return self._parts[number]

    def _locate(self, index: int) -> tuple[Part, int]:
        if not 0 <= index < self._first[-1]:
            raise IndexError(f"sequence {index} of {self._first[-1]}")
        number = int(np.searchsorted(self._first, index, side="right")) - 1
        return self._part(number), index - int(self._first[number])

    @cached_property
    def sequences(self) -> tuple[SequenceInfo, ...]:
        """All sequences, in store order."""
        return tuple(info for number in range(len(self.manifest.parts)) for info in self._part(number).sequences)

    def read_clip(self, index: int, frames: Int64[np.ndarray, " frame"], *, targets: bool = True, labels: bool = False) -> CachedClip:
        """Some frames of sequence `index`, with their targets and, if asked for, their labels.

        `frames` are ascending frame numbers, repeats allowed. Each array is read as one range of rows.

        Raises:
            CacheCorruptError: bytes that were read differ from the ones that were written.
            IndexError: no such sequence or frame.
        """
        part, local = self._locate(index)
        if len(frames) == 0 or frames[0] < 0 or frames[-1] >= part.sequences[local].num_frames or (np.diff(frames) < 0).any():
            raise IndexError(f"frames {frames} of a sequence of {part.sequences[local].num_frames} frames")
        return part.read_clip(local, frames, targets=targets, labels=labels)

    def cameras(self, index: int) -> tuple[Camera, ...]:
        """The cameras of sequence `index`, one a view.

        Raises:
            CacheCorruptError: bytes that were read differ from the ones that were written.
            IndexError: no such sequence.
        """
        part, local = self._locate(index)
        intrinsics, poses = part.intrinsics[local], part.world_to_camera[local]
        size = self.manifest.render.image_size
        return tuple(Camera(intrinsics=k, world_to_camera=pose, image_size=size) for k, pose in zip(intrinsics, poses, strict=True))

    def projection(self) -> Float32[np.ndarray, "channel_in channel_out"] | None:
        """The matrix that took teacher channels to target channels, if there was one.

        Raises:
            CacheCorruptError: it differs from the one that was written.
        """
        record = self.manifest.projection
        if record.sha256 is None:
            return None
        try:
            matrix = np.asarray(zarr.open_array(self.path / PROJECTION, mode="r")[...])
        except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:  # whatever damaged metadata leads to
            raise _corrupt(self.path / PROJECTION, f"the matrix cannot be read ({type(error).__name__})") from None
        if sha256_bytes(matrix.tobytes()) != record.sha256:
            raise _corrupt(self.path / PROJECTION, "the matrix differs from the one that was written")
        return matrix


def open_cache(path: Path | str, *, allow_partial: bool = False) -> Cache:
    """Open a store for reading.

    With `allow_partial` a store that is still being built shows the parts that are committed.

    Raises:
        CacheFormatError: no store there, or one of an unknown format version.
        CacheIncompleteError: the build has not finished.
        CacheCorruptError: a committed part of an unfinished store cannot be read.
    """
    path = Path(path)
    manifest = CacheManifest.read(path)
    if not manifest.complete:
        folders = sorted((path / PARTS).glob("[0-9]*"))
        if not allow_partial:
            raise CacheIncompleteError(
                f"{path} is not finished: {len(folders)} of {manifest.plan.num_parts} parts are there",
                hint="run the same `cross4d-cache build` again; it goes on where it stopped",
            )
        manifest = manifest.model_copy(update={"parts": tuple(part_record(folder, manifest.fingerprint) for folder in folders)})
    return Cache(path, manifest)
