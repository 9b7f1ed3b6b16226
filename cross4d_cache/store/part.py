"""A part: whole sequences, written once, immutable after that. The arrays, their meaning and their layout on disk.

Every array is one shard of chunks; each chunk carries zstd's checksum, each shard index a crc32c, and the part lists every file
with size and hash. docs/cache_format.md is the specification.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float16, Float64, Int16, Int64, Shaped, UInt16, UInt32
from pydantic import TypeAdapter, ValidationError

from cross4d_cache.store.digest import FILE_LIST, FileRecord, canonical_json, record_of, sha256_bytes
from cross4d_cache.store.manifest import METADATA_FILE
from cross4d_cache.store.shard import ArrayMetadata, encode_rows
from cross4d_cache.types import SequenceInfo

NOT_VISIBLE = 65_535
"""Patch slot of a point that a view does not see."""

CHUNK_LIST = "chunks.json"

SEQUENCE_COLUMNS = ("id", "num_frames", "action", "subject", "camera", "splits")
"""Columns that every table of sequences has; later ones may be absent."""

Split = Literal["train", "test"]
"""Sides of a protocol, as they are stored."""

_SEQUENCES: TypeAdapter[tuple[SequenceInfo, ...]] = TypeAdapter(tuple[SequenceInfo, ...])


@dataclass(frozen=True)
class ArrayLayout:
    """How an array lies in a part: its type, the shape of a row (`view` and `channel` as in the manifest), rows of a chunk."""

    dtype: str
    row: tuple[int | str, ...]
    chunk_rows: int
    optional: bool = False


LAYOUT = {
    "point_offsets": ArrayLayout("int64", (), 4096),
    "points": ArrayLayout("uint16", (3,), 16_384),
    "boxes": ArrayLayout("float64", (2, 3), 1024),
    "patch_slot": ArrayLayout("uint16", ("view",), 16_384),
    "frame_tubelet": ArrayLayout("int64", (), 4096),
    "feature_offsets": ArrayLayout("int64", (), 4096),
    "features": ArrayLayout("float16", ("channel",), 256),
    "feature_patch": ArrayLayout("uint16", (), 8192),
    "frame_features": ArrayLayout("float16", ("channel",), 64),
    "intrinsics": ArrayLayout("float64", ("view", 3, 3), 1024),
    "world_to_camera": ArrayLayout("float64", ("view", 4, 4), 1024),
    "part_labels": ArrayLayout("uint16", (), 16_384, optional=True),
    "surface_ids": ArrayLayout("uint32", (), 16_384, optional=True),
    "frame_actions": ArrayLayout("int16", (), 4096, optional=True),
}
"""The arrays of a part. Chunks are such that a clip of some tens of frames touches few, and decodes little that it does not need."""


@dataclass(frozen=True, kw_only=True)
class PartContents:
    """The arrays of one part, as they lie in the store.

    Frames of the part's sequences follow one another; so do their points. `patch_slot` counts rows within the feature table of
    the point's frame: the rows `feature_offsets[k]` to `feature_offsets[k + 1]` with `k = frame_tubelet[frame]`.
    """

    sequences: tuple[SequenceInfo, ...]
    point_offsets: Int64[np.ndarray, " frame_boundary"]
    points: UInt16[np.ndarray, "point 3"]
    boxes: Float64[np.ndarray, "sequence 2 3"]
    patch_slot: UInt16[np.ndarray, "point view"]
    frame_tubelet: Int64[np.ndarray, " frame"]
    feature_offsets: Int64[np.ndarray, " tubelet_boundary"]
    features: Float16[np.ndarray, "row channel"]
    feature_patch: UInt16[np.ndarray, " row"]
    frame_features: Float16[np.ndarray, "tubelet channel"]
    intrinsics: Float64[np.ndarray, "camera_window view 3 3"]
    world_to_camera: Float64[np.ndarray, "camera_window view 4 4"]
    part_labels: UInt16[np.ndarray, " point"] | None = None
    surface_ids: UInt32[np.ndarray, " point"] | None = None
    frame_actions: Int16[np.ndarray, " frame"] | None = None

    def counts(self) -> dict[str, int]:
        """How much the part holds; these numbers are repeated in the manifest."""
        return {
            "num_sequences": len(self.sequences),
            "num_frames": len(self.frame_tubelet),
            "num_points": len(self.points),
            "num_visible": int((self.patch_slot != NOT_VISIBLE).any(axis=1).sum()),
            "num_rows": len(self.features),
        }


class WrittenArray(NamedTuple):
    """The files of an array by their names in its part, and the hashes of its encoded chunks, in order, then that of their index: so
    that each can be loaded and checked by itself. An array without rows has neither chunks nor index.
    """

    files: dict[str, FileRecord]
    hashes: list[str]


def write_array(folder: Path, name: str, values: Shaped[np.ndarray, "row ..."], chunk_rows: int) -> WrittenArray:
    """Write one array into the folder of its part, as a single shard of zstd chunks with checksums."""
    array = ArrayMetadata(dtype=values.dtype, shape=values.shape, chunk_rows=chunk_rows)
    document, shard = array.document(), folder / name / shard_file(values.ndim)
    (shard.parent if array.has_bytes else folder / name).mkdir(parents=True)
    (folder / name / METADATA_FILE).write_bytes(document)
    files, hashes = {f"{name}/{METADATA_FILE}": record_of([document])}, list[str]()
    if array.has_bytes:
        pieces = list(encode_rows(array, values))
        with shard.open("wb") as file:
            file.writelines(pieces)
        files[f"{name}/{shard_file(values.ndim)}"] = record_of(pieces)
        hashes = [sha256_bytes(piece) for piece in pieces]
    return WrittenArray(files, hashes)


def write_part(folder: Path, contents: PartContents, fingerprint: str) -> None:
    """Write all files of a part into a folder that is not there yet, the list of files last.

    `fingerprint` ties the part to the settings of its build. What a file manager or a network file system puts beside the files
    does not belong to the part, as nothing lists it.
    """
    attributes = {"fingerprint": fingerprint, **contents.counts(), "sequences": sequence_columns(contents.sequences)}
    arrays = {name: values for name, values in vars(contents).items() if name in LAYOUT and values is not None}
    folder.mkdir()
    written = {name: write_array(folder, name, values, LAYOUT[name].chunk_rows) for name, values in arrays.items()}
    own = {
        METADATA_FILE: group_document({"cross4d_part": attributes}),
        CHUNK_LIST: canonical_json({name: array.hashes for name, array in written.items() if array.hashes}),
    }
    for name, data in own.items():
        (folder / name).write_bytes(data)
    files = {name: record_of([data]) for name, data in own.items()} | {n: f for array in written.values() for n, f in array.files.items()}
    (folder / FILE_LIST).write_bytes(canonical_json({name: record.model_dump() for name, record in files.items()}))


def group_document(attributes: Mapping[str, Any]) -> bytes:
    """`zarr.json` of a group, to the byte as zarr 3.1 writes it."""
    return json.dumps({"attributes": attributes, "zarr_format": 3, "node_type": "group"}, indent=2).encode()


def shard_file(num_axes: int) -> str:
    """The only shard of an array, relative to its folder."""
    return "c" + "/0" * num_axes


def shard_name(array: str) -> str:
    """The file of an array, relative to its part."""
    return f"{array}/{shard_file(1 + len(LAYOUT[array].row))}"


def parse_part_attributes(data: bytes) -> dict[str, Any]:
    """The attributes that `write_part` gave a part, from its `zarr.json`.

    Raises:
        ValueError: there are none.
    """
    try:
        return dict(json.loads(data)["attributes"]["cross4d_part"])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ValueError("no attributes of a part") from None


def parse_sequences(columns: object) -> tuple[SequenceInfo, ...]:
    """Sequences from a table of columns. Columns of a newer release are kept; in them, null says that a sequence has no such field.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(columns, dict) or not set(SEQUENCE_COLUMNS) <= set(columns):
        raise ValueError("no table of sequences")
    if not all(isinstance(column, list) for column in columns.values()) or len({len(column) for column in columns.values()}) != 1:
        raise ValueError("columns of different lengths")
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    kept = [{name: value for name, value in row.items() if value is not None or name in SEQUENCE_COLUMNS} for row in rows]
    try:
        sequences = _SEQUENCES.validate_json(canonical_json(kept), strict=True, extra="allow")
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"a sequence with {first['loc'][-1]} = {str(first['input'])[:80]}") from None
    if not all(info.num_frames for info in sequences):
        raise ValueError("a sequence with num_frames = 0")
    if any(side not in get_args(Split) for info in sequences for side in info.splits.values()):
        raise ValueError(f"a side that is none of {', '.join(get_args(Split))}")
    check_ids(sequences)
    return sequences


def check_ids(sequences: Sequence[SequenceInfo]) -> None:
    """Refuse sequences of which two have the same id: lists, selections and evaluations speak of sequences by it.

    Raises:
        ValueError: two have.
    """
    [(name, count)] = Counter(info.id for info in sequences).most_common(1) or [("", 0)]
    if count > 1:
        raise ValueError(f"{count} sequences have the id {name[:80]!r}")


def sequence_columns(sequences: Sequence[SequenceInfo]) -> dict[str, list[Any]]:
    """The table of some sequences, as `parse_sequences` reads it."""
    rows = [info.model_dump(mode="json") for info in sequences]
    names = dict.fromkeys((*SEQUENCE_COLUMNS, *(name for row in rows for name in row)))
    return {name: [row.get(name) for row in rows] for name in names}
