"""Reading one part, lazily and checked: bytes that differ from the written ones raise, they never become numbers."""

from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import zarr
from jaxtyping import Float16, Float64, Int32, Int64, Shaped, UInt16
from pydantic import TypeAdapter, ValidationError

from cross4d_cache.errors import CacheCorruptError
from cross4d_cache.store import quantize
from cross4d_cache.store.digest import FILE_LIST, FileRecord, sha256_bytes, sha256_file
from cross4d_cache.store.manifest import PartRecord
from cross4d_cache.store.part import LAYOUT, NOT_VISIBLE, read_part_attributes, read_sequences, rust_codecs
from cross4d_cache.types import CachedClip, Camera, RenderSettings, SequenceInfo

_FILE_LIST = TypeAdapter(dict[str, FileRecord])


def corrupt(path: Path, what: str) -> CacheCorruptError:
    """The error for bytes that are not what was written."""
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
            raise corrupt(path, "the list of files differs from the one that was written")
        files = _FILE_LIST.validate_json(data)
    except (OSError, ValidationError):
        raise corrupt(path, "the list of files cannot be read") from None
    for name in files:
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise corrupt(path, f"the list of files leads out of the store, to {name!r}")
    return files


class PartFiles:
    """The files of a part, each checked against the list that was committed with it."""

    def __init__(self, folder: Path, record: PartRecord) -> None:
        self.folder, self.record = folder, record
        self._files = read_file_list(folder, record.sha256)

    def sequences(self) -> tuple[SequenceInfo, ...]:
        """The sequences of the part, without opening its arrays.

        Raises:
            CacheCorruptError: the attributes differ from the ones that were written, or contradict the manifest.
        """
        self._check_hash("zarr.json")
        try:
            sequences = read_sequences(read_part_attributes(self.folder))
            num_frames = sum(info.num_frames for info in sequences)
        except (OSError, ValueError, KeyError, TypeError):
            raise corrupt(self.folder, "its table of sequences cannot be read") from None
        if (len(sequences), num_frames) != (self.record.num_sequences, self.record.num_frames):
            raise corrupt(self.folder, "its table of sequences contradicts the manifest")
        return sequences

    def _check_size(self, name: str) -> None:
        path, expected = self.folder / name, self._files[name].bytes
        found = path.stat().st_size if path.is_file() else None
        if found != expected:
            raise corrupt(path, "the file is missing" if found is None else f"the file has {found} bytes instead of {expected}")

    def _check_hash(self, name: str) -> None:
        path = self.folder / name
        try:
            intact = sha256_file(path) == self._files[name].sha256
        except OSError:
            intact = False
        if not intact:
            raise corrupt(path, "its bytes differ from the ones that were written")


class Part(PartFiles):
    """One open part: checked metadata, frame tables in memory, everything else read by row ranges."""

    def __init__(self, folder: Path, record: PartRecord, *, render: RenderSettings, channels: int) -> None:
        super().__init__(folder, record)
        self._render = render
        for name in self._files:
            self._check_size(name)
            if name.endswith("zarr.json"):
                self._check_hash(name)
        with rust_codecs():
            group = zarr.open_group(folder, mode="r", zarr_format=3)
            self._arrays: dict[str, zarr.Array[Any]] = {name: group[name] for name in LAYOUT if f"{name}/zarr.json" in self._files}  # type: ignore[misc]
        self.infos = self.sequences()
        lengths = [info.num_frames for info in self.infos]
        self.first_frames: Int64[np.ndarray, " boundary"] = np.cumsum([0, *lengths], dtype=np.int64)
        self._first_cameras: Int64[np.ndarray, " boundary"] = np.cumsum([0, *map(render.num_camera_windows, lengths)], dtype=np.int64)
        self._check_layout({"view": render.views, "channel": channels})
        self._check_tables()

    def _check_layout(self, sizes: dict[str, int]) -> None:
        """Types, shapes and lengths, before anything is read into memory that a wrong declaration could blow up."""
        record = self.record
        expected = {
            "point_offsets": record.num_frames + 1,
            **dict.fromkeys(("frame_tubelet", "frame_actions"), record.num_frames),
            **dict.fromkeys(("points", "patch_slot", "part_labels", "surface_ids"), record.num_points),
            **dict.fromkeys(("features", "feature_patch"), record.num_rows),
            "boxes": record.num_sequences,
            **dict.fromkeys(("intrinsics", "world_to_camera"), int(self._first_cameras[-1])),
        }
        for name, layout in LAYOUT.items():
            if name not in self._arrays:
                if layout.optional:
                    continue
                raise corrupt(self.folder, f"array {name} is missing")
            array = self._arrays[name]
            row = tuple(sizes.get(str(size), size) for size in layout.row)
            if str(array.dtype) != layout.dtype or tuple(array.shape[1:]) != row or array.shape[0] != expected.get(name, array.shape[0]):
                raise corrupt(self.folder / name, f"array {array.dtype}{tuple(array.shape)} does not fit the manifest")
        if not self._arrays["feature_offsets"].shape[0] - 1 == self._arrays["frame_features"].shape[0] <= record.num_frames:
            raise corrupt(self.folder, "its tables contradict one another")

    def _check_tables(self) -> None:
        tables = (self.point_offsets, self.feature_offsets)
        consistent = (
            all(table[0] == 0 and (np.diff(table) >= 0).all() for table in tables)
            and self.point_offsets[-1] == self.record.num_points
            and self.feature_offsets[-1] == self.record.num_rows
            and self.frame_tubelet.min(initial=0) >= 0
            and self.frame_tubelet.max(initial=-1) < len(self.feature_offsets) - 1
        )
        if not consistent:
            raise corrupt(self.folder, "its tables contradict one another")

    def rows(self, name: str, start: int, stop: int) -> Shaped[np.ndarray, "row ..."]:
        """Rows `start` to `stop` of an array.

        Raises:
            CacheCorruptError: a chunk fails its checksum, or its file vanished.
        """
        try:
            values = np.asarray(self._arrays[name][start:stop])
        except (OSError, RuntimeError, ValueError) as error:
            raise corrupt(self.folder / name, f"a chunk cannot be read ({str(error).splitlines()[0]})") from None
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
    def intrinsics(self) -> Float64[np.ndarray, "camera_window view 3 3"]:
        """Camera matrices of every camera window of every sequence, pixels."""
        return self._table("intrinsics")

    @cached_property
    def world_to_camera(self) -> Float64[np.ndarray, "camera_window view 4 4"]:
        """Poses of these cameras, metres."""
        return self._table("world_to_camera")

    def cameras(self, sequence: int, frame: int) -> tuple[Camera, ...]:
        """`Cache.cameras` of a sequence of this part."""
        window = self._first_cameras[sequence] + self._render.camera_window(frame, self.infos[sequence].num_frames)
        size, model = self._render.image_size, self._render.camera_model
        return tuple(
            Camera(intrinsics=intrinsics, world_to_camera=pose, image_size=size, model=model)
            for intrinsics, pose in zip(self.intrinsics[window], self.world_to_camera[window], strict=True)
        )

    def read_clip(self, sequence: int, frames: Int64[np.ndarray, " frame"], *, targets: bool, labels: bool) -> CachedClip:
        """`Cache.read_clip` of a sequence of this part."""
        info = self.infos[sequence]
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
            frame_actions=self.rows("frame_actions", first, last + 1)[part_frames - first]
            if labels and self.has("frame_actions")
            else None,
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
        visible = slots != NOT_VISIBLE
        counts = np.diff(offsets)
        table = np.repeat(self.feature_offsets[tubelets] - first_row, counts).astype(np.int32)[:, None]
        length = np.repeat(self.feature_offsets[tubelets + 1] - self.feature_offsets[tubelets], counts)[:, None]
        if (visible & (slots >= length)).any():
            raise corrupt(self.folder / "patch_slot", "a slot lies outside its table")
        return {
            "rows": np.where(visible, slots + table, np.int32(-1)),
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
