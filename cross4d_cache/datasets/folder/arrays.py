"""Frames as bare numbers: numpy's `.npy` and `.npz`, records of float32 (KITTI, nuScenes), and text.

Arrays of objects, which would be pickles, are refused. A `.npz` file is a zip archive of `.npy` files: `points` (or the only array), and
optionally `scale` and `loc`, with which positions are points * scale + loc (D-FAUST as occupancy flow distributes it), and `labels`.
"""

import io
import re
import zipfile
from math import prod

import numpy as np
from jaxtyping import Shaped

from cross4d_cache.datasets.folder.cloud import LARGEST_BYTES, Cloud, read_rows, to_cloud
from cross4d_cache.datasets.npy_header import read_npy_header

MOST_COLUMNS = 64
"""Numbers of one point; an array of three rows and more columns than that has its axes swapped."""


def read_npy(data: bytes) -> Cloud:
    """An array of shape (points, at least 3); further columns are ignored.

    Raises:
        ValueError: the file is damaged, or holds something else.
    """
    return _to_cloud(parse_npy(data))


def read_npz(data: bytes) -> Cloud:
    """The arrays `points`, `scale`, `loc` and `labels`, of which only the first is needed.

    Raises:
        ValueError: the file is damaged, or its arrays do not fit one another.
        zipfile.BadZipFile: no archive, or a checksum that does not fit.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        if "points" not in members and len(members) != 1:
            raise ValueError(f"holds the arrays {', '.join(members)[:200] or '(none)'}, none of them points")
        name = "points" if "points" in members else next(iter(members))
        arrays = {key: _unpack(archive, members[key], len(data)) for key in (name, "scale", "loc", "labels") if key in members}
    points = arrays[name]
    if "scale" in arrays or "loc" in arrays:
        scale, shift = arrays.get("scale", np.ones(1)), arrays.get("loc", np.zeros(1))
        if scale.size not in (1, 3) or shift.size not in (1, 3) or points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"points {points.shape}, scale {scale.shape} and loc {shift.shape}; the latter have 1 or 3 numbers each")
        with np.errstate(over="ignore", invalid="ignore"):
            points = points.astype(np.float64) * scale.ravel().astype(np.float64) + shift.ravel().astype(np.float64)
    return _to_cloud(points, arrays.get("labels"))


def read_records(data: bytes, columns: int) -> Cloud:
    """Records of `columns` little-endian float32 numbers, of which x, y and z are the first.

    Raises:
        ValueError: the file ends inside a record.
    """
    if len(data) % (4 * columns):
        raise ValueError(
            f"ends at byte {len(data)}, {len(data) % (4 * columns)} bytes into a point of {columns} numbers (option columns, 4 bytes each)"
        )
    return _to_cloud(np.frombuffer(data, "<f4").reshape(-1, columns))


def read_text(data: bytes) -> Cloud:
    """Lines that begin with x, y and z, apart by blanks or commas.

    Raises:
        ValueError: a line does not begin with three numbers.
    """
    delimiter = "," if b"," in data[: 1 << 16] else None
    return to_cloud(list(read_rows(data, 0, (0, 1, 2), delimiter=delimiter).T))


def read_obj(data: bytes) -> Cloud:
    """The vertices of a Wavefront OBJ mesh: lines `v x y z`.

    Raises:
        ValueError: a vertex does not begin with three numbers.
    """
    vertices = b"\n".join(re.findall(rb"^v[ \t](.*)$", data, re.MULTILINE))
    return to_cloud(list(read_rows(vertices, 0, (0, 1, 2)).T))


def parse_npy(data: bytes) -> Shaped[np.ndarray, "..."]:
    """The array of a `.npy` file: floats or integers.

    Raises:
        ValueError: the file is damaged, or holds something else.
    """
    header = read_npy_header(io.BytesIO(data))
    if header.dtype == "O":
        raise ValueError("holds objects, not numbers")
    dtype, shape = np.dtype(header.dtype), header.shape
    end = header.body + prod(shape) * dtype.itemsize
    if len(data) != end:
        raise ValueError(f"ends at byte {len(data)}, an array of shape {shape} at byte {end}")
    return np.frombuffer(data, dtype, prod(shape), header.body).reshape(shape, order="F" if header.fortran else "C")


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> Shaped[np.ndarray, "..."]:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is packed by method {member.compress_type}, which numpy does not use")
    # Deflate packs at most 1032 bytes into one; a directory may say anything.
    if member.file_size > min(LARGEST_BYTES, 1032 * member.compress_size) or member.compress_size > size:
        raise ValueError(
            f"{member.filename} takes {member.file_size} bytes, packed {member.compress_size}; at most {LARGEST_BYTES} are read"
        )
    try:
        with archive.open(member) as file:
            return parse_npy(file.read(member.file_size + 1))  # read() without a number would unpack more than the directory says
    except ValueError as error:
        raise ValueError(f"{member.filename} {error}") from None


def _to_cloud(points: Shaped[np.ndarray, "..."], labels: Shaped[np.ndarray, "..."] | None = None) -> Cloud:
    if points.ndim == 2 and points.shape[0] == 3 and points.shape[1] > MOST_COLUMNS:
        raise ValueError(f"holds an array of shape {points.shape}, which lies on its side: write its transpose, (points, 3 or more)")
    if points.ndim != 2 or points.shape[1] < 3:
        raise ValueError(f"holds an array of shape {points.shape}, not (points, 3 or more)")
    if labels is not None and labels.size != len(points):
        raise ValueError(f"has {len(points)} points and {labels.size} labels")
    columns = [points[:, axis] for axis in range(3)]
    return to_cloud(columns if labels is None else [*columns, labels.ravel()])
