"""PCD files (https://pointclouds.org/documentation/tutorials/pcd_file_format.html), text, binary and compressed.

A header of lines names the fields of a point with size, type and count; DATA is the last line. Compressed bodies are two little-endian
uint32 (bytes packed and unpacked), then, packed by LZF, all values of the first field, all of the second and so on. The pose of the
sensor (VIEWPOINT) is not applied. Open3D 0.20 reads these files too, but one of its readers breaks the heap on two fields `_` with which
PCL pads, the other gives zeros for coordinates of 8 bytes, and both give whatever memory held for the points that truncated text lacks.
"""

import re
import struct
from dataclasses import dataclass

import numpy as np

from cross4d_cache.datasets.folder.cloud import LARGEST_BYTES, Cloud, Column, Columns, to_cloud

_HEADER = re.compile(rb"(.*?)^DATA[ \t]+(ascii|binary|binary_compressed)[ \t\r]*\n", re.DOTALL | re.MULTILINE)
_TYPES = re.compile("F[48]|[IU][1248]")
LONGEST_HEADER = 1 << 16
LARGEST_RATIO = 88
"""LZF packs at most 264 bytes into 3."""


@dataclass(frozen=True)
class _Header:
    columns: Columns
    num_points: int


def read_pcd(data: bytes) -> Cloud:
    """The points, with their field `label` if they have one.

    Raises:
        ValueError: the file is damaged.
    """
    match = _HEADER.match(data[:LONGEST_HEADER])
    if match is None:
        raise ValueError("no PCD header begins at byte 0 and ends with a line DATA ascii, binary or binary_compressed")
    header = _parse(match[1].decode("latin1"))
    if match[2] == b"ascii":
        return header.columns.from_text(data, match.end(), header.num_points)
    if match[2] == b"binary":
        return header.columns.from_bytes(data, match.end(), header.num_points)
    return _unpack(data, match.end(), header)


def _parse(text: str) -> _Header:
    lines = [line.split() for line in text.split("\n") if not line.startswith("#")]
    values = {words[0]: words[1:] for words in lines if words}
    try:
        names = values["FIELDS"]
        kinds = [kind + size for kind, size in zip(values["TYPE"], values["SIZE"], strict=True)]
        counts = values.get("COUNT", ["1"] * len(names))
        num_points = _number(values["POINTS"][0])
        if num_points != _number(values["WIDTH"][0]) * _number(values["HEIGHT"][0]):
            raise ValueError(f"its header says {num_points} POINTS, which is not WIDTH times HEIGHT")
        if not all(_TYPES.fullmatch(kind) for kind in kinds):
            raise ValueError(f"its header has fields of other types than F4 F8 I1 I2 I4 I8 U1 U2 U4 U8: {' '.join(kinds)[:80]}")
        columns = [Column(name, f"<{kind.lower()}", _number(count)) for name, kind, count in zip(names, kinds, counts, strict=True)]
    except (KeyError, IndexError) as error:
        raise ValueError(f"its header has no value for {error}") from None
    return _Header(Columns(columns), num_points)


def _number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,12}", text):
        raise ValueError(f"its header has {text[:20]!r} in the place of a number")
    return int(text)


def _unpack(data: bytes, start: int, header: _Header) -> Cloud:
    """The points of a compressed body."""
    needed = header.num_points * header.columns.num_bytes
    packed, unpacked = struct.unpack_from("<II", data, start) if len(data) >= start + 8 else (0, 0)
    end = start + 8 + packed
    if len(data) < end or len(data) < start + 8:
        raise ValueError(f"ends at byte {len(data)} of {end}")
    if unpacked != needed or unpacked > min(LARGEST_RATIO * packed, LARGEST_BYTES):
        raise ValueError(
            f"says at byte {start} that {packed} bytes unpack to {unpacked}; its {header.num_points} points take {needed} bytes,"
            f" and at most {LARGEST_BYTES} are read"
        )
    body = decompress_lzf(data[start + 8 : end], unpacked)
    columns, place = [], [0]
    for column in header.columns:
        place.append(place[-1] + np.dtype(column.dtype).itemsize * column.count * header.num_points)
    for index in header.columns.wanted:
        columns.append(np.frombuffer(body, header.columns[index].dtype, header.num_points, place[index]))
    return to_cloud(columns)


def decompress_lzf(data: bytes, size: int) -> bytes:
    """Undo LZF: runs of up to 32 bytes as they are, and copies of up to 264 of the last 8192 bytes.

    Raises:
        ValueError: the data is not LZF of so many bytes.
    """
    out, place, last = bytearray(), 0, len(data)
    while place < last and len(out) <= size:
        control = data[place]
        place += 1
        if control < 32:
            out += data[place : place + control + 1]
            place += control + 1
            continue
        extra = 2 if control >= 224 else 1
        if place + extra > last:
            place -= 1
            break
        length = (control >> 5) + 2 + (data[place] if extra == 2 else 0)
        place += extra
        start = len(out) - ((control & 31) << 8) - data[place - 1] - 1
        if start < 0:
            raise ValueError(f"its packed body refers to bytes before its beginning, {place} bytes into it")
        copied = out[start : start + length]
        out += copied if len(copied) == length else (copied * (length // len(copied) + 1))[:length]
    if place != last or len(out) != size:
        raise ValueError(f"its packed body breaks {place} bytes into it, after {len(out)} of {size} bytes")
    return bytes(out)
