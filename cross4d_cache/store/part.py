"""A part: whole sequences, written once, immutable after that. The arrays, their meaning and their layout on disk.

Every array is one shard of chunks; each chunk carries zstd's checksum, each shard index a crc32c, and the part lists every file
with size and hash. docs/cache_format.md is the specification.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import zarr
from jaxtyping import Float16, Float64, Int16, Int64, Shaped, UInt16, UInt32
from pydantic import TypeAdapter, ValidationError
from zarr.codecs import ZstdCodec

from cross4d_cache.store.digest import FILE_LIST, canonical_json, list_files, sha256_bytes
from cross4d_cache.store.shard import ArrayMetadata
from cross4d_cache.types import SequenceInfo

NOT_VISIBLE = 65_535
"""Patch slot of a point that a view does not see."""

ZSTD_LEVEL = 3

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


def write_array(group: zarr.Group, name: str, values: Shaped[np.ndarray, "row ..."], chunk_rows: int) -> None:
    """Write one array as a single shard of zstd chunks with checksums."""
    shard_rows = max(1, -(-len(values) // chunk_rows)) * chunk_rows
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(chunk_rows, *values.shape[1:]),
        shards=(shard_rows, *values.shape[1:]),
        compressors=ZstdCodec(level=ZSTD_LEVEL, checksum=True),
        fill_value=0,
        config={"write_empty_chunks": True},  # a missing chunk must mean damage, never zeros
    )
    if values.size:
        array[...] = values


def write_part(folder: Path, contents: PartContents, fingerprint: str) -> None:
    """Write all files of a part into an empty folder, the list of files last.

    `fingerprint` ties the part to the settings of its build.
    """
    attributes = {"fingerprint": fingerprint, **contents.counts(), "sequences": sequence_columns(contents.sequences)}
    group = zarr.create_group(folder, zarr_format=3, attributes={"cross4d_part": attributes})
    arrays = {name: values for name, values in vars(contents).items() if name in LAYOUT and values is not None}
    for name, values in arrays.items():
        write_array(group, name, values, LAYOUT[name].chunk_rows)
    filled = [name for name, values in arrays.items() if values.size]
    (folder / CHUNK_LIST).write_bytes(canonical_json({name: hash_chunks(folder, name) for name in filled}))
    # By name: what a file manager or a network file system has put beside them does not belong to the part.
    files = ["zarr.json", CHUNK_LIST, *(f"{name}/zarr.json" for name in arrays), *map(shard_name, filled)]
    listing = {name: record.model_dump() for name, record in list_files(folder, files).items()}
    (folder / FILE_LIST).write_bytes(canonical_json(listing))


def hash_chunks(folder: Path, name: str) -> list[str]:
    """Hashes of the encoded chunks of an array, in order, then that of its index: so that each can be loaded and checked by itself."""
    array = ArrayMetadata.parse((folder / name / "zarr.json").read_bytes())
    with (folder / shard_name(name)).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        index = array.index_span(size)
        file.seek(index.start)
        spans = [*array.parse_index(file.read(index.size), size), index]
        hashes = []
        for start, length in spans:
            file.seek(start)
            hashes.append(sha256_bytes(file.read(length)))
    return hashes


def shard_name(array: str) -> str:
    """The file of an array, relative to its part."""
    return f"{array}/c{'/0' * (1 + len(LAYOUT[array].row))}"


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
