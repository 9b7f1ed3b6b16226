"""Rows of a shard, against zarr's own reading; and shards that no honest writer makes."""

import json
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numcodecs.zstd import Zstd
from zarr.codecs import ZstdCodec

from cross4d_cache.store.digest import record_of, sha256_bytes
from cross4d_cache.store.part import group_document, write_array
from cross4d_cache.store.shard import ArrayMetadata, Span, content_size, decode_chunk, read_rows

DTYPES = [np.uint16, np.float16, np.int64, np.float64, np.uint32]
PLAIN = {
    "zarr_format": 3, "node_type": "array", "shape": [10, 3], "data_type": "uint16", "fill_value": 0,
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [12, 3]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "codecs": [{"name": "sharding_indexed", "configuration": {
        "chunk_shape": [4, 3], "index_location": "end",
        "codecs": [{"name": "bytes"}, {"name": "zstd"}], "index_codecs": [{"name": "bytes"}, {"name": "crc32c"}]}}],
}  # fmt: skip


def written_by_zarr(folder: Path, values: np.ndarray, chunk_rows: int) -> None:
    """The reference of `write_array`: zarr writes the array `x`."""
    shard_rows = max(1, -(-len(values) // chunk_rows)) * chunk_rows
    array = zarr.create_group(folder, zarr_format=3, attributes={"cross4d_part": {"num_frames": 3}}).create_array(
        "x",
        shape=values.shape,
        dtype=values.dtype,
        chunks=(chunk_rows, *values.shape[1:]),
        shards=(shard_rows, *values.shape[1:]),
        compressors=ZstdCodec(level=3, checksum=True),
        fill_value=0,
        config={"write_empty_chunks": True},
    )
    if values.size:
        array[...] = values


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(folder: Path, start: int, stop: int) -> np.ndarray:
    array = ArrayMetadata.parse((folder / "zarr.json").read_bytes())
    file = folder.joinpath("c", *["0"] * len(array.shape))
    data = file.read_bytes() if file.exists() else b""
    spans = array.parse_index(data[array.index_span(len(data)).start :], len(data)) if array.has_bytes else []
    return read_rows(array, start, stop, lambda numbers: [data[s : s + size] for s, size in (spans[number] for number in numbers)])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    dtype=st.sampled_from(DTYPES), rows=st.integers(0, 40), row=st.lists(st.integers(1, 4), max_size=2), chunk=st.integers(1, 12),
    data=st.data(),
)  # fmt: skip
def test_any_rows_are_those_that_zarr_reads(tmp_path_factory, dtype, rows, row, chunk, data) -> None:
    values = data.draw(arrays(dtype, (rows, *row)))
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))
    folder = tmp_path_factory.mktemp("array")
    write_array(folder, "x", values, chunk)
    ours, theirs = read(folder / "x", start, stop), np.asarray(zarr.open_array(folder / "x", mode="r")[start:stop])
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert ours.tobytes() == theirs.tobytes()
    assert ours.flags.writeable


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    dtype=st.sampled_from(DTYPES), rows=st.integers(0, 40), row=st.lists(st.integers(1, 4), max_size=3), chunk=st.integers(1, 12),
    order=st.sampled_from("CF"), data=st.data(),
)  # fmt: skip
def test_files_are_those_that_zarr_writes(tmp_path_factory, dtype, rows, row, chunk, order, data) -> None:
    values = np.asarray(data.draw(arrays(dtype, (rows, *row))), order=order)
    ours, theirs = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs") / "group"
    written_by_zarr(theirs, values, chunk)
    (ours / "zarr.json").write_bytes(group_document({"cross4d_part": {"num_frames": 3}}))
    written = write_array(ours, "x", values, chunk)
    assert files_of(ours) == files_of(theirs)
    found = {name: record_of([data]) for name, data in files_of(ours).items() if name != "zarr.json"}
    assert written.files == found
    shard = files_of(ours).get("x/c" + "/0" * values.ndim, b"")
    array = ArrayMetadata.parse(files_of(ours)["x/zarr.json"])
    index = array.index_span(len(shard)) if array.has_bytes else Span(0, 0)
    spans = [*array.parse_index(shard[index.start :], len(shard)), index] if array.has_bytes else []
    assert written.hashes == [sha256_bytes(shard[start : start + size]) for start, size in spans]


def test_a_written_shard_by_hand(tmp_path: Path) -> None:
    """Five rows in chunks of two: three chunks, the last filled up with zeros, one after the other, and sixteen bytes a chunk of index."""
    write_array(tmp_path, "x", np.array([1, 2, 3, 4, 5], np.uint16), 2)
    shard = (tmp_path / "x/c/0").read_bytes()
    entries = np.frombuffer(shard[-52:-4], "<u8").reshape(3, 2)
    assert entries[0, 0] == 0
    assert (entries[1:, 0] == entries[:-1].sum(axis=1)).all()
    decoded = [np.frombuffer(Zstd().decode(shard[start : start + size]), "<u2").tolist() for start, size in entries.tolist()]
    assert decoded == [[1, 2], [3, 4], [5, 0]]
    assert int.from_bytes(shard[-4:], "little") == google_crc32c.value(shard[-52:-4])
    assert json.loads((tmp_path / "x/zarr.json").read_text())["chunk_grid"]["configuration"]["chunk_shape"] == [6]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 70_000))
def test_the_size_in_a_frame_is_that_of_its_content(size: int) -> None:
    assert content_size(Zstd(checksum=True).encode(bytes(size))) == size


def test_frames_without_checksum_or_size_are_refused() -> None:
    with pytest.raises(ValueError, match="without a checksum"):
        content_size(Zstd(checksum=False).encode(bytes(9)))
    with pytest.raises(ValueError, match="declare its size"):
        content_size(b"\x28\xb5\x2f\xfd\x04\x58\x01\x00\x00")  # as streaming encoders write them
    for strange in (b"", b"\x28\xb5\x2f\xfd", bytes(20), b"\x28\xb5\x2f\xfd\xc4\x00"):
        with pytest.raises(ValueError, match=r"no zstd frame|declare|checksum"):
            content_size(strange)


def test_a_bomb_is_refused_before_memory_is_taken() -> None:
    bomb = bytearray(Zstd(checksum=True).encode(bytes(2**20)))
    with pytest.raises(ValueError, match="1048576 bytes in place of 24"):
        decode_chunk(bytes(bomb), np.empty(24, np.uint8))
    forged = b"\x28\xb5\x2f\xfd\xe4" + (2**40).to_bytes(8, "little") + bytes(bomb[9:])
    with pytest.raises(ValueError, match=f"{2**40} bytes"):
        decode_chunk(forged, np.empty(24, np.uint8))


def test_a_frame_that_says_its_size_and_holds_another_is_refused() -> None:
    frame = bytearray(Zstd(checksum=True).encode(bytes(range(200)) * 2))
    width = {0: 1, 1: 2}[frame[4] >> 6]
    frame[5 : 5 + width] = (300 - (256 if width == 2 else 0)).to_bytes(width, "little")
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode_chunk(bytes(frame), np.empty(300, np.uint8))


def test_trailing_bytes_are_refused() -> None:
    frame = Zstd(checksum=True).encode(bytes(100))
    for extra in (b"x", frame):
        with pytest.raises(ValueError, match="cannot be decoded"):
            decode_chunk(frame + extra, np.empty(100, np.uint8))


def test_metadata_of_the_format_is_taken() -> None:
    array = ArrayMetadata.parse(json.dumps(PLAIN).encode())
    assert (array.shape, array.chunk_rows, array.num_chunks, array.row_bytes) == ((10, 3), 4, 3, 6)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["shape"], [2**40, 3]), (["shape"], [-1, 3]), (["shape"], [True, 3]), (["shape"], []), (["shape"], [10.0, 3]), (["shape"], "x"),
        (["shape"], [2**70, 3]), (["data_type"], "object"), (["data_type"], "O"), (["data_type"], "bool"), (["data_type"], ["uint8"]),
        (["data_type"], "float16" * 1000), (["codecs"], []), (["codecs", 0, "name"], "pickle"),
        (["codecs", 0, "configuration", "chunk_shape"], [2**30, 3]), (["codecs", 0, "configuration", "chunk_shape"], [0, 3]),
        (["codecs", 0, "configuration", "chunk_shape"], [4, 2]), (["codecs", 0, "configuration", "index_location"], "start"),
        (["codecs", 0, "configuration", "codecs"], [{"name": "bytes"}, {"name": "gzip"}]),
        (["codecs", 0, "configuration", "index_codecs"], [{"name": "bytes"}]), (["chunk_grid", "configuration", "chunk_shape"], [8, 3]),
        (["chunk_grid", "configuration", "chunk_shape"], [2**60, 3]), (["chunk_grid"], None), (["node_type"], "group"),
        (["zarr_format"], 2), (["fill_value"], 1), (["storage_transformers"], [{"name": "x"}]),
        (["chunk_key_encoding", "configuration"], {"separator": "."}), (["chunk_key_encoding", "name"], "v2"),
        (["codecs", 0, "configuration", "codecs", 0, "configuration"], {"endian": "big"}),
        (["codecs", 0, "configuration", "index_codecs", 0, "configuration"], {"endian": "big"}),
    ],
)  # fmt: skip
def test_other_metadata_is_refused(keys, value) -> None:
    record = json.loads(json.dumps(PLAIN))
    target = record
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = value
    with pytest.raises(ValueError, match=r"array|shard|sizes|chunks|metadata"):
        ArrayMetadata.parse(json.dumps(record).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"null", b"NaN", b"\xff", b'{"codecs": 3}', b"1" * 5000])
def test_what_is_no_metadata_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="metadata"):
        ArrayMetadata.parse(data)


def test_chunks_outside_the_file_are_refused() -> None:
    array = ArrayMetadata.parse(json.dumps(PLAIN).encode())
    import google_crc32c

    for offset, size in ((0, 101), (90, 20), (2**63, 4), (2**64 - 1, 2**64 - 1), (101, 0)):
        entries = np.array([[0, 4], [4, 4], [offset, size]], "<u8").tobytes()
        index = entries + google_crc32c.value(entries).to_bytes(4, "little")
        with pytest.raises(ValueError, match="outside"):
            array.parse_index(index, 100 + len(index))
    good = np.array([[0, 4], [4, 4], [96, 4]], "<u8").tobytes()
    assert array.parse_index(good + google_crc32c.value(good).to_bytes(4, "little"), 152)[-1] == Span(96, 4)
    with pytest.raises(ValueError, match="checksum"):
        array.parse_index(good + bytes(4), 152)


def test_more_rows_than_anything_reads_are_refused() -> None:
    array = ArrayMetadata.parse(json.dumps({**PLAIN, "shape": [2**29, 3], **_grid(2**29)}).encode())
    with pytest.raises(ValueError, match="more than anything reads"):
        read_rows(array, 0, 2**29, lambda numbers: [])


def _grid(rows: int) -> dict:
    return {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [rows, 3]}}}
