"""Reading one part, lazily and checked: bytes that differ from the written ones raise, they never become numbers."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float16, Float64, Int32, Int64, Shaped, UInt16
from pydantic import TypeAdapter

from cross4d_cache.errors import CacheCorruptError
from cross4d_cache.store import quantize
from cross4d_cache.store.digest import FILE_LIST, FileRecord, Sha256, canonical_json, sha256_bytes
from cross4d_cache.store.manifest import METADATA_FILE, CacheManifest, PartRecord
from cross4d_cache.store.part import CHUNK_LIST, LAYOUT, NOT_VISIBLE, parse_part_attributes, parse_sequences, sequence_columns, shard_name
from cross4d_cache.store.shard import ArrayMetadata, Span, read_rows
from cross4d_cache.store.storage import Storage, StoredFile
from cross4d_cache.store.storage.archive import is_plain_name
from cross4d_cache.types import CachedClip, Camera, SequenceInfo

PARTS = "parts"
GROUP_FILE = f"{PARTS}/{METADATA_FILE}"
PARTS_GROUP = canonical_json({"zarr_format": 3, "node_type": "group", "attributes": {}})
"""The content of `GROUP_FILE`: for Zarr libraries the parts are members of a group. Stores of release 0.1 do not have it."""
MOST_LIST_BYTES = 2**26
"""Bytes of a part's list of files, or of any other of its files that is read whole."""
TABLES = ("point_offsets", "feature_offsets", "frame_tubelet", "boxes", "intrinsics", "world_to_camera")
"""Arrays that are small, and read whole: their files are hashed, so that not even another part's file passes for one."""

_FILE_LIST: TypeAdapter[dict[str, FileRecord]] = TypeAdapter(dict[str, FileRecord])
_CHUNK_LIST: TypeAdapter[dict[str, list[str]]] = TypeAdapter(dict[str, list[Sha256]])


class PartFiles:
    """The files of a part, each checked against the list that was committed with it.

    Raises:
        CacheCorruptError: the list is missing, differs from the one that was committed, or leads out of the part.
        CacheUnreachableError: it cannot be read now.
    """

    def __init__(self, storage: Storage, record: PartRecord) -> None:
        self.storage, self.record = storage, record
        self.folder = f"{PARTS}/{record.name}"
        data = storage.fetch_list(f"{self.folder}/{FILE_LIST}", record.sha256, min(record.bytes, MOST_LIST_BYTES))
        try:
            listed = parse_file_list(data)
        except ValueError:
            raise self.corrupt(FILE_LIST, "the list of files cannot be read") from None
        strange = next((name for name in listed if not is_plain_name(name)), None)
        if strange is not None:
            raise self.corrupt(FILE_LIST, f"the list of files leads out of the store, to {strange[:200]!r}")
        if sum(file.bytes for file in listed.values()) + len(data) != record.bytes:
            raise self.corrupt(FILE_LIST, "the sizes of its files contradict the manifest")
        self.files = {name: StoredFile(f"{self.folder}/{name}", file.bytes, file.sha256) for name, file in listed.items()}
        self.listing = StoredFile(f"{self.folder}/{FILE_LIST}", len(data), record.sha256)

    def corrupt(self, name: str, what: str) -> CacheCorruptError:
        """The error for a file of this part that is not what was written."""
        return self.storage.corrupt(f"{self.folder}/{name}" if name else self.folder, what)

    def fetch(self, name: str) -> bytes:
        """A whole file of the part.

        Raises:
            CacheCorruptError: it is missing, or differs from the one that was written.
        """
        if name not in self.files:
            raise self.corrupt(name, "the file is not in the part's list")
        if self.files[name].bytes > MOST_LIST_BYTES:
            raise self.corrupt(name, f"{self.files[name].bytes} bytes are more than a table has")
        return self.storage.fetch(self.files[name])

    @cached_property
    def sequences(self) -> tuple[SequenceInfo, ...]:
        """The sequences of the part, without opening its arrays.

        Raises:
            CacheCorruptError: the attributes differ from the ones that were written, or contradict the manifest.
        """
        attributes = self._attributes
        try:
            sequences = parse_sequences(attributes.get("sequences"))
        except ValueError as error:
            raise self.corrupt("", f"its table of sequences cannot be read ({error})") from None
        counted = {"num_sequences": len(sequences), "num_frames": sum(info.num_frames for info in sequences)}
        for name in PartRecord.model_fields:
            value = getattr(self.record, name)
            if name.startswith("num_") and not attributes.get(name) == counted.get(name, value) == value:
                raise self.corrupt("", f"its {name} contradicts the manifest")
        return sequences

    @cached_property
    def content(self) -> str:
        """Hash of what the part holds, whatever it says which settings it belongs to.

        Raises:
            CacheCorruptError: the attributes differ from the ones that were written, or contradict the manifest.
        """
        arrays = {name: file.sha256 for name, file in self.files.items() if name != METADATA_FILE}
        return sha256_bytes(canonical_json([arrays, sequence_columns(self.sequences)]))

    @cached_property
    def _attributes(self) -> dict[str, Any]:
        try:
            return parse_part_attributes(self.fetch(METADATA_FILE))
        except ValueError as error:
            raise self.corrupt("", str(error)) from None


class Part(PartFiles):
    """One open part: checked metadata, frame tables in memory, everything else read by row ranges."""

    def __init__(self, storage: Storage, record: PartRecord, manifest: CacheManifest) -> None:
        super().__init__(storage, record)
        self._render = render = manifest.render
        self._num_patches = manifest.views * manifest.teacher.num_patches
        self._stamps = {name: storage.check(file) for name, file in self.files.items()}
        metadata = {name: f"{name}/{METADATA_FILE}" for name in LAYOUT if f"{name}/{METADATA_FILE}" in self.files}
        wanted = [*metadata.values(), METADATA_FILE, CHUNK_LIST, *(shard_name(name) for name in TABLES)]
        small = dict(zip(wanted, storage.map(lambda name: self.fetch(name) if name in self.files else b"", wanted), strict=True))
        try:
            self._arrays = {name: ArrayMetadata.parse(small[file]) for name, file in metadata.items()}
            self._hashes = _CHUNK_LIST.validate_json(small[CHUNK_LIST] or b"{}")
        except (ValueError, RecursionError) as error:
            raise self.corrupt("", f"its arrays cannot be read ({str(error).splitlines()[0][:200]})") from None
        self.infos = self.sequences
        lengths = [info.num_frames for info in self.infos]
        self.first_frames: Int64[np.ndarray, " boundary"] = np.cumsum([0, *lengths], dtype=np.int64)
        self.first_cameras: Int64[np.ndarray, " boundary"] = np.cumsum([0, *map(render.num_camera_windows, lengths)], dtype=np.int64)
        if self._attributes.get("fingerprint") != manifest.fingerprint:
            raise self.corrupt("", "the part belongs to a store of other settings")
        self._check_layout({"view": render.views, "channel": manifest.projection.channels})
        self._tables = tables = {name: self._decode(name, small[shard_name(name)]) for name in TABLES}
        self.point_offsets: Int64[np.ndarray, " frame_boundary"] = tables["point_offsets"]
        """First point of every frame, and the end."""
        self.feature_offsets: Int64[np.ndarray, " tubelet_boundary"] = tables["feature_offsets"]
        """First feature row of every tubelet, and the end."""
        self.frame_tubelet: Int64[np.ndarray, " frame"] = tables["frame_tubelet"]
        """Tubelet of every frame."""
        self.boxes: Float64[np.ndarray, "sequence 2 3"] = tables["boxes"]
        """Fixed-point grid of every sequence."""
        self.intrinsics: Float64[np.ndarray, "camera_window view 3 3"] = tables["intrinsics"]
        """Camera matrices of every camera window of every sequence, pixels."""
        self.world_to_camera: Float64[np.ndarray, "camera_window view 4 4"] = tables["world_to_camera"]
        """Poses of these cameras, metres."""
        self._check_tables()
        large = [name for name in self._arrays if name not in TABLES and self._arrays[name].has_bytes]
        self._chunks = dict(zip(large, storage.map(self._read_index, large), strict=True))

    @property
    def unknown_arrays(self) -> tuple[str, ...]:
        """Arrays that a newer release added."""
        names = (name.removesuffix(f"/{METADATA_FILE}") for name in self.files if name.endswith(f"/{METADATA_FILE}"))
        return tuple(sorted(name for name in names if name not in LAYOUT))

    def _check_layout(self, sizes: dict[str, int]) -> None:
        """Types, shapes and lengths, before anything is read into memory that a wrong declaration could blow up."""
        record = self.record
        expected = {
            "point_offsets": record.num_frames + 1,
            **dict.fromkeys(("frame_tubelet", "frame_actions"), record.num_frames),
            **dict.fromkeys(("points", "patch_slot", "part_labels", "surface_ids"), record.num_points),
            **dict.fromkeys(("features", "feature_patch"), record.num_rows),
            "boxes": record.num_sequences,
            **dict.fromkeys(("intrinsics", "world_to_camera"), int(self.first_cameras[-1])),
        }
        for name, layout in LAYOUT.items():
            if name not in self._arrays:
                if layout.optional:
                    continue
                raise self.corrupt(name, "the array is missing")
            array = self._arrays[name]
            row = tuple(sizes.get(str(size), size) for size in layout.row)
            if str(array.dtype) != layout.dtype or array.shape[1:] != row or array.shape[0] != expected.get(name, array.shape[0]):
                raise self.corrupt(name, f"array {array.dtype}{array.shape} does not fit the manifest")
            if array.has_bytes and shard_name(name) not in self.files:
                raise self.corrupt(name, "the array has no chunks")
        if not self._arrays["feature_offsets"].shape[0] - 1 == self._arrays["frame_features"].shape[0] <= record.num_frames:
            raise self.corrupt("", "its tables contradict one another")

    def _decode(self, name: str, data: bytes) -> Any:
        """A whole array from the bytes of its file."""
        array = self._arrays[name]
        try:
            if not array.has_bytes:
                return read_rows(array, 0, array.shape[0], lambda chunks: [])
            span = array.index_span(len(data))
            chunks = array.parse_index(data[span.start :], len(data))
            return read_rows(
                array, 0, array.shape[0], lambda numbers: [data[start : start + size] for start, size in chunks[: len(numbers)]]
            )
        except ValueError as error:
            raise self.corrupt(shard_name(name), str(error)) from None

    def _read_index(self, name: str) -> list[Span]:
        """Where the chunks of an array lie."""
        array, file, hashes = self._arrays[name], self.files[shard_name(name)], self._hashes.get(name)
        try:
            if hashes is not None and len(hashes) != array.num_chunks + 1:
                raise ValueError(f"{len(hashes)} hashes of {array.num_chunks} chunks")
            span = array.index_span(file.bytes)
            [data] = self.storage.spans(file, [span], None if hashes is None else hashes[-1:])
            if hashes is not None and sha256_bytes(data) != hashes[-1]:
                raise ValueError("its index differs from the one that was written")
            return array.parse_index(data, file.bytes)
        except ValueError as error:
            raise self.corrupt(shard_name(name), str(error)) from None

    def _check_tables(self) -> None:
        tables = (self.point_offsets, self.feature_offsets)
        consistent = (
            all(table[0] == 0 and (np.diff(table) >= 0).all() for table in tables)
            and (np.diff(self.point_offsets) > 0).all()  # a frame without points is none
            and self.point_offsets[-1] == self.record.num_points
            and self.feature_offsets[-1] == self.record.num_rows
            and self.frame_tubelet.min(initial=0) >= 0
            and self.frame_tubelet.max(initial=-1) < len(self.feature_offsets) - 1
            and (np.diff(self.frame_tubelet) >= 0).all()
        )
        if not consistent:
            raise self.corrupt("", "its tables contradict one another")
        for name in ("boxes", "intrinsics", "world_to_camera"):
            if not np.isfinite(self._tables[name]).all():
                raise self.corrupt(name, "numbers that are not finite")
        if (self.boxes[:, 1] < 0).any():
            raise self.corrupt("boxes", "a step below 0")

    def rows(self, name: str, start: int, stop: int) -> Shaped[np.ndarray, "row ..."]:
        """Rows `start` to `stop` of an array.

        Raises:
            CacheCorruptError: a chunk fails its checksum, or its file vanished or was replaced.
            CacheUnreachableError: it cannot be read now.
        """
        if name in TABLES:
            found: Shaped[np.ndarray, "row ..."] = self._tables[name][start:stop]
            return found
        file = self.files.get(shard_name(name))

        def read(numbers: range) -> Sequence[bytes]:
            assert file is not None
            known = self._hashes.get(name)
            chunks, hashes = [self._chunks[name][number] for number in numbers], None if known is None else [known[n] for n in numbers]
            found = self.storage.spans(file, chunks, hashes)
            stamp = self.storage.check(file)
            if stamp == self._stamps[shard_name(name)]:
                return found
            if hashes is None:  # as of release 0.1: only the whole file can be compared
                self._stamps[shard_name(name)] = self._confirm(file)
                return read(numbers)
            if any(sha256_bytes(data) != sha256 for data, sha256 in zip(found, hashes, strict=True)):
                raise ValueError("the file was replaced while the store was open")
            return found

        try:
            return read_rows(self._arrays[name], start, stop, read)
        except ValueError as error:
            raise self.corrupt(shard_name(name), f"rows cannot be read: {error}") from None

    def _confirm(self, file: StoredFile) -> object:
        """The stamp of a file that was written anew or only touched, once its bytes are known to be those of the store.

        Raises:
            CacheCorruptError: they are not.
        """
        stamp = self.storage.check(file)
        for _ in self.storage.stream(file):
            pass
        return stamp

    def has(self, name: str) -> bool:
        """Whether the part holds an optional array."""
        return name in self._arrays

    def cameras(self, sequence: int, frame: int) -> tuple[Camera, ...]:
        """`Cache.cameras` of a sequence of this part."""
        window = self.first_cameras[sequence] + self._render.camera_window(frame, self.infos[sequence].num_frames)
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
            raise self.corrupt(shard_name("patch_slot"), "a slot lies outside its table")
        patches = self.rows("feature_patch", first_row, last_row)
        if (patches >= self._num_patches).any():
            raise self.corrupt(shard_name("feature_patch"), "a patch that no image has")
        return {
            "rows": np.where(visible, slots + table, np.int32(-1)),
            "features": self.rows("features", first_row, last_row),
            "patches": patches,
            "frame_features": self.rows("frame_features", first_tubelet, last_tubelet + 1)[tubelets - first_tubelet],
        }


def parse_file_list(data: bytes) -> dict[str, FileRecord]:
    """The files of a part by their names in it.

    Raises:
        ValueError: no list of files.
    """
    try:
        return _FILE_LIST.validate_json(data, extra="allow")
    except RecursionError:
        raise ValueError("lists within lists") from None


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
