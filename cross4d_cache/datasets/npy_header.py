"""The header of numpy's `.npy` format, matched instead of evaluated.

A magic number, a version, the length of the header, and a Python dictionary with number type and shape
(https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
"""

import re
from dataclasses import dataclass
from io import BufferedIOBase

MAGIC = b"\x93NUMPY"
LONGEST = 10_000
"""Bytes of a header; numpy's own have 118."""
_HEADER = re.compile(
    r"\{'descr': '([<>|=]?)(O|f[248]|[iu][1248])', 'fortran_order': (False|True), 'shape': \(([\d, ]*)\),? *\}\s*", re.ASCII
)


@dataclass(frozen=True)
class NpyHeader:
    """Number type (`O` for objects), whether columns come first, shape, and the byte at which the numbers begin."""

    dtype: str
    fortran: bool
    shape: tuple[int, ...]
    body: int


def read_npy_header(file: BufferedIOBase) -> NpyHeader:
    """The header of an array of objects, floats or integers; the file is left at the first byte of the numbers.

    Raises:
        ValueError: something else begins here.
    """
    start = file.read(8)
    if start[:6] != MAGIC or start[6:7] not in (b"\x01", b"\x02", b"\x03"):
        raise ValueError("no .npy array begins at byte 0")
    width = 2 if start[6:7] == b"\x01" else 4
    length = int.from_bytes(file.read(width), "little")
    match = _HEADER.fullmatch(file.read(min(length, LONGEST)).decode("latin1"))
    if match is None:
        raise ValueError("its header is not that of an array of objects, floats or integers")
    order, kind, fortran, sizes = match.groups()
    shape = tuple(int(size[:15]) for size in sizes.replace(",", " ").split())
    return NpyHeader("O" if kind == "O" else order + kind, fortran == "True", shape, 8 + width + length)
