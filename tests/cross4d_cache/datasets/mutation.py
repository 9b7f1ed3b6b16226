"""Damage of every kind, for files of any format."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

_INTEGERS = [("<i", 0), ("<i", -1), ("<i", 2**31 - 1), ("<I", 2**31), ("<i", 2**28), (">I", 2**31 - 1), (">I", 2**20)]
_LONG_INTEGERS = [("<q", -1), ("<q", 2**62), ("<Q", 2**40), ("<H", 0xFFFF), ("<B", 0)]
_FLOATS = [("<f", float("nan")), ("<f", float("inf")), ("<f", 1e38), ("<d", float("nan")), ("<d", 1e300)]
EXTREMES = [struct.pack(form, value) for form, value in (*_INTEGERS, *_LONG_INTEGERS, *_FLOATS)]
"""Numbers that lengths, offsets and coordinates should never be."""

WORDS = [b"-1", b"0", b"nan", b"inf", b"1e999", b"99999999999", b"4294967296", b"", b"x", b"\xff\xfe", b"-0.0", b"1" * 400]
"""What may stand in the place of a number in a text file."""


def mutate(path: Path, rng: np.random.Generator) -> bytes:
    """The bytes of a file, damaged: mostly as it lies on disk, sometimes inside its container, with the checksums made right again."""
    data = path.read_bytes()
    if path.suffix == ".npz" and rng.random() < 0.6:
        return _inside_zip(data, rng)
    if path.suffix == ".png" and rng.random() < 0.6:
        return _with_checksums(damage(data, rng))
    return damage(data, rng)


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut, stretch, overwrite or shuffle some bytes; half of the time near the beginning, where headers are."""
    if not data:
        return rng.bytes(10)
    reach = len(data) if rng.random() < 0.5 else min(len(data), int(rng.choice([16, 64, 512])))
    place = int(rng.integers(reach))
    length = int(min(rng.integers(1, 64), len(data) - place))
    match int(rng.integers(9)):
        case 0:
            return data[:place]
        case 1:
            return data + rng.bytes(int(rng.integers(1, 5000)))
        case 2:
            return data[:place] + data[place + length :]
        case 3:
            return data[:place] + rng.bytes(length) + data[place:]
        case 4:
            return data[:place] + bytes(length) + data[place + length :]
        case 5 | 6:
            aligned = place // 4 * 4
            number = EXTREMES[rng.integers(len(EXTREMES))]
            return data[:aligned] + number + data[aligned + len(number) :]
        case 7:
            return _another_word(data, place, rng)
        case _:
            changed = bytearray(data)
            for where in rng.integers(0, reach, int(rng.integers(1, 5))):
                changed[where] ^= int(rng.integers(1, 256))
            return bytes(changed)


def _another_word(data: bytes, place: int, rng: np.random.Generator) -> bytes:
    """Replace what stands between two blanks or commas."""
    ends = [end for end in (data.find(mark, place) for mark in (b" ", b",", b"\n")) if end >= 0]
    start = max(data.rfind(mark, 0, place) for mark in (b" ", b",", b"\n")) + 1
    return data[:start] + WORDS[rng.integers(len(WORDS))] + data[min(ends, default=place) :]


def _inside_zip(data: bytes, rng: np.random.Generator) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as copy:
        chosen = rng.integers(len(source.namelist()))
        for number, name in enumerate(source.namelist()):
            content = source.read(name)
            # A name alone would be given the time of day.
            copy.writestr(zipfile.ZipInfo(name), damage(content, rng) if number == chosen else content, zipfile.ZIP_DEFLATED)
    return target.getvalue()


def _with_checksums(data: bytes) -> bytes:
    """A PNG file whose chunks have the right checksums again, as far as its chunks can be followed."""
    fixed, place = bytearray(data), 8
    while place + 12 <= len(fixed):
        end = place + 12 + int.from_bytes(fixed[place : place + 4], "big")
        if end > len(fixed):
            break
        fixed[end - 4 : end] = struct.pack(">I", zlib.crc32(fixed[place + 4 : end - 4]))
        place = end
    return bytes(fixed)
