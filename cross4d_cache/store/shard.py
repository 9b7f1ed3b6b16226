"""Rows of one array: its metadata, the index of its shard, and its chunks, written as Zarr v3 writes them and each decoded into place
(docs/cache_format.md).

Nothing here trusts what it reads: what does not fit the format is a `ValueError`, and no memory is taken that decoded bytes do not fill.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from jaxtyping import Shaped, UInt8
from numcodecs.zstd import Zstd, compress

MOST_CHUNK_BYTES = 2**26
"""Decoded bytes of a chunk; the writer's are far smaller."""
MOST_READ_BYTES = 2**30
"""Decoded bytes of one read: a hostile store could fill any memory with zeros that take no space."""
MOST_INDEX_BYTES = 2**26
"""Bytes of a shard's index."""
DATA_TYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
INDEX_ENTRY = np.dtype([("offset", "<u8"), ("size", "<u8")])
CRC_BYTES = 4
ZSTD_LEVEL = 3

_zstd = Zstd()


class Span(NamedTuple):
    """A range of bytes of a file."""

    start: int
    size: int


ReadChunks = Callable[[range], Sequence[bytes]]
"""Reads chunks by their numbers, encoded."""


@dataclass(frozen=True, kw_only=True)
class ArrayMetadata:
    """What `zarr.json` says of an array; all of it is checked against the format, and the rest of the file is not looked at."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    chunk_rows: int

    @classmethod
    def parse(cls, data: bytes) -> "ArrayMetadata":
        """From the bytes of `zarr.json`.

        Raises:
            ValueError: not an array of this format.
        """
        try:
            record = json.loads(data)
            [codec] = record["codecs"]
            sharding, grid = codec["configuration"], record["chunk_grid"]
            shape, data_type = tuple(record["shape"]), record["data_type"]
            shard, chunk = tuple(grid["configuration"]["chunk_shape"]), tuple(sharding["chunk_shape"])
            names = [record["node_type"], grid["name"], record["chunk_key_encoding"]["name"], codec["name"], sharding["index_location"]]
            codecs, index_codecs = ([item["name"] for item in sharding[key]] for key in ("codecs", "index_codecs"))
            orders = [item.get("configuration", {}).get("endian", "little") for key in ("codecs", "index_codecs") for item in sharding[key]]
            plain = [record["zarr_format"], record["fill_value"], record.get("storage_transformers", [])]
            separator = record["chunk_key_encoding"].get("configuration", {}).get("separator", "/")
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ValueError(f"no metadata of an array ({type(error).__name__})") from None
        if names != ["array", "regular", "default", "sharding_indexed", "end"] or (codecs, index_codecs) != (
            ["bytes", "zstd"],
            ["bytes", "crc32c"],
        ):
            raise ValueError("not one shard of zstd chunks")
        if plain != [3, 0, []] or set(orders) != {"little"} or separator != "/":
            raise ValueError("an array of another layout than the format's")
        sizes = (*shape, *shard, *chunk)
        if any(type(size) is not int or not 0 <= size < 2**62 for size in sizes) or not shape or data_type not in DATA_TYPES:
            raise ValueError("sizes or type of an array that cannot be")
        rows = chunk[0] if len(chunk) == len(shape) and chunk[1:] == shape[1:] == shard[1:] else 0
        if rows == 0 or shard[0] != max(1, -(-shape[0] // rows)) * rows:
            raise ValueError("chunks that do not divide the rows of one shard")
        found = cls(dtype=np.dtype(data_type), shape=shape, chunk_rows=rows)
        if found.chunk_rows * found.row_bytes > MOST_CHUNK_BYTES:
            raise ValueError(f"chunks of more than {MOST_CHUNK_BYTES} bytes")
        return found

    def document(self) -> bytes:
        """`zarr.json`, to the byte as zarr 3.1 writes it."""
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        sharding = {
            "chunk_shape": [self.chunk_rows, *self.shape[1:]],
            "codecs": [little, {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": True}}],
            "index_codecs": [little, {"name": "crc32c"}],
            "index_location": "end",
        }
        record = {
            "shape": self.shape,
            "data_type": str(self.dtype),
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [max(1, self.num_chunks) * self.chunk_rows, *self.shape[1:]]},
            },
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": self.dtype.type(0).item(),
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "attributes": {},
            "zarr_format": 3,
            "node_type": "array",
            "storage_transformers": [],
        }
        return json.dumps(record, indent=2).encode()

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        size = self.dtype.itemsize
        for length in self.shape[1:]:
            size *= length
        return size

    @property
    def has_bytes(self) -> bool:
        """Whether there is a file; arrays without rows, or whose rows are empty, have none."""
        return self.shape[0] > 0 and self.row_bytes > 0

    @property
    def num_chunks(self) -> int:
        """Chunks of the shard."""
        return -(-self.shape[0] // self.chunk_rows)

    @property
    def index_bytes(self) -> int:
        """Length of the index at the end of the shard."""
        return INDEX_ENTRY.itemsize * self.num_chunks + CRC_BYTES

    def index_span(self, file_bytes: int) -> Span:
        """Where the index lies.

        Raises:
            ValueError: the file cannot hold it.
        """
        if self.index_bytes > file_bytes:
            raise ValueError(f"a file of {file_bytes} bytes cannot hold {self.num_chunks} chunks")
        if self.index_bytes > MOST_INDEX_BYTES:
            raise ValueError(f"{self.num_chunks} chunks are more than any array has")
        return Span(file_bytes - self.index_bytes, self.index_bytes)

    def parse_index(self, data: bytes, file_bytes: int) -> list[Span]:
        """Where every chunk lies.

        Raises:
            ValueError: the checksum does not fit, or a chunk lies outside the file.
        """
        entries, crc = data[:-CRC_BYTES], data[-CRC_BYTES:]
        if len(data) != self.index_bytes or int.from_bytes(crc, "little") != google_crc32c.value(entries):
            raise ValueError("the shard's index fails its checksum")
        table = np.frombuffer(entries, INDEX_ENTRY)
        end = np.uint64(file_bytes - self.index_bytes)
        if ((table["size"] > end) | (table["offset"] > end - np.minimum(table["size"], end))).any():
            raise ValueError("a chunk lies outside its file")
        return [Span(offset, size) for offset, size in table.tolist()]


def encode_rows(array: ArrayMetadata, values: Shaped[np.ndarray, "row ..."]) -> Iterator[bytes]:
    """The file of an array, piece by piece: its chunks, then their index. The last chunk is filled up with zeros."""
    flat = np.ascontiguousarray(values, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
    chunk_bytes = array.chunk_rows * array.row_bytes
    index, end = np.empty(array.num_chunks, INDEX_ENTRY), 0
    for number in range(array.num_chunks):
        rows = flat[number * chunk_bytes : (number + 1) * chunk_bytes]
        data = compress(rows if len(rows) == chunk_bytes else np.pad(rows, (0, chunk_bytes - len(rows))), ZSTD_LEVEL, checksum=True)
        index[number], end = (end, len(data)), end + len(data)
        yield data
    entries = index.tobytes()
    yield entries + google_crc32c.value(entries).to_bytes(CRC_BYTES, "little")


def read_rows(array: ArrayMetadata, start: int, stop: int, read: ReadChunks) -> Shaped[np.ndarray, "row ..."]:
    """Rows `start` to `stop`.

    Raises:
        ValueError: a chunk fails its checksum or has another size than it should, or the rows are too many to be meant.
    """
    row_bytes, chunk_rows = array.row_bytes, array.chunk_rows
    if (stop - start) * row_bytes > MOST_READ_BYTES:
        raise ValueError(f"{stop - start} rows of {row_bytes} bytes are more than anything reads at once")
    if start >= stop or not row_bytes:
        return np.empty((max(stop - start, 0), *array.shape[1:]), array.dtype)
    first = start // chunk_rows
    found = read(range(first, -(-stop // chunk_rows)))  # before memory is taken
    flat = np.empty((stop - start) * row_bytes, np.uint8)
    for number, data in enumerate(found, start=first):
        low, high = max(start, number * chunk_rows), min(stop, (number + 1) * chunk_rows)
        place = flat[(low - start) * row_bytes : (high - start) * row_bytes]
        if high - low == chunk_rows:
            decode_chunk(data, place)
        else:
            whole = np.empty(chunk_rows * row_bytes, np.uint8)
            decode_chunk(data, whole)
            skipped = (low - number * chunk_rows) * row_bytes
            place[...] = whole[skipped : skipped + len(place)]
    return flat.view(array.dtype.newbyteorder("<")).astype(array.dtype, copy=False).reshape(-1, *array.shape[1:])


def decode_chunk(data: bytes, out: UInt8[np.ndarray, " byte"]) -> None:
    """Fill `out` with one zstd frame.

    Raises:
        ValueError: it is damaged, carries no checksum, or is of another size.
    """
    size = content_size(data)
    if size != len(out):
        raise ValueError(f"a chunk of {size} bytes in place of {len(out)}")
    try:
        _zstd.decode(data, out)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"a chunk cannot be decoded ({error})") from None


def content_size(frame: bytes) -> int:
    """Decoded bytes that the header of a zstd frame declares (RFC 8878, section 3.1.1).

    Raises:
        ValueError: no zstd frame, or one without size or checksum.
    """
    if frame[:4] != b"\x28\xb5\x2f\xfd" or len(frame) < 6:
        raise ValueError("a chunk that is no zstd frame")
    descriptor = frame[4]
    single_segment, has_checksum = descriptor >> 5 & 1, descriptor >> 2 & 1
    if not has_checksum:
        raise ValueError("a chunk without a checksum")
    width = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
    first = 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3]
    if width == 0 or len(frame) < first + width:
        raise ValueError("a chunk that does not declare its size")
    return int.from_bytes(frame[first : first + width], "little") + (256 if width == 2 else 0)
