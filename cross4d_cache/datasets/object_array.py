"""The `.npz` files in which peers distribute sequences: one array of arrays, frame after frame, `(points, 3)` each.

A `.npz` file is a zip archive of `.npy` files (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html): a magic number,
a header with number type and shape, then the numbers. Frames of different lengths make an array of objects, whose body is a pickle;
see `array_pickle`. Frames that all have the same number of points may have become one `(frames, points, 3)` array instead.
"""

import errno
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from jaxtyping import Shaped

from cross4d_cache.datasets.array_pickle import MAX_HELD_BYTES, ArrayPickle
from cross4d_cache.datasets.looking import look_at, unreadable
from cross4d_cache.datasets.npy_header import read_npy_header
from cross4d_cache.errors import DatasetError

LARGEST_BYTES = 1 << 30
"""Of an unpacked array."""
_AGAIN = "fetch the file again, or move it out of the folder"


@dataclass(frozen=True)
class ObjectArray:
    """What the header says: number type (`O` for objects), shape, and the byte at which the body begins, of `num_bytes`."""

    path: Path
    key: str
    dtype: str
    shape: tuple[int, ...]
    body: int
    num_bytes: int

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self.shape[0]

    def frames(self) -> Iterator[Shaped[np.ndarray, "point 3"]]:
        """The frames one by one, in the number type of the file.

        Raises:
            DatasetError: the file is damaged, or holds something else than arrays of points.
        """
        with _opened(self.path, self.key) as (file, _):
            file.read(self.body)
            count = 0
            for frame in ArrayPickle(file).arrays() if self.dtype == "O" else self._slices(file):
                count += 1
                yield frame
            if file.read(1):
                raise ValueError("the array is followed by something else")
            if count != self.num_frames:
                raise ValueError(f"{count} frames where the header has {self.num_frames}")

    def _slices(self, file: BufferedIOBase) -> Iterator[Shaped[np.ndarray, "point 3"]]:
        dtype = np.dtype(self.dtype)
        num_points = self.shape[1]
        for _ in range(self.num_frames):
            data = file.read(num_points * 3 * dtype.itemsize)
            if len(data) < num_points * 3 * dtype.itemsize:
                raise ValueError("it ends inside a frame")
            yield np.frombuffer(data, dtype).reshape(num_points, 3)


def open_object_array(path: Path, key: str) -> ObjectArray:
    """The header of one array of a `.npz` file; its size is checked against the archive's directory.

    Raises:
        DatasetError: the file is not a `.npz` archive, is cut off, or its array is of another kind.
    """
    with _opened(path, key) as (file, num_bytes):
        header = read_npy_header(file)
        array = ObjectArray(path, key, header.dtype, header.shape, header.body, num_bytes)
        _check_kind(array, header.fortran)
        return array


def _check_kind(array: ObjectArray, fortran: bool) -> None:
    room = array.num_bytes - array.body
    if array.dtype == "O" and len(array.shape) == 1 and 0 < array.num_frames <= room:
        return
    if not re.fullmatch(r"[<>|=]?(f[248]|[iu][1248])", array.dtype) or len(array.shape) != 3 or array.shape[2] != 3 or fortran:
        raise ValueError(f"an array of type {array.dtype} and shape {array.shape} where (frames,) objects or (frames, points, 3) belong")
    frame = array.shape[1] * 3 * np.dtype(array.dtype).itemsize
    if frame > MAX_HELD_BYTES:
        raise ValueError(f"frames of {frame} bytes; at most {MAX_HELD_BYTES} are read")
    needed = array.num_frames * frame
    if needed != room or needed == 0:
        raise ValueError(f"{room} bytes where an array of shape {array.shape} takes {needed}")


@contextmanager
def _opened(path: Path, key: str) -> Iterator[tuple[BufferedIOBase, int]]:
    """One array's bytes, unpacked as they are read, and their number; what is wrong with them becomes a `DatasetError`."""
    place = size = 0
    try:
        size = look_at(path, path.stat, _AGAIN).st_size
        with look_at(path, lambda: path.open("rb"), _AGAIN) as packed, _archive(packed) as archive:
            names = archive.namelist()
            if f"{key}.npy" not in names:
                raise DatasetError(f"{path}: holds {', '.join(names[:5]) or 'nothing'}", expected=f"an array named {key}", hint=_AGAIN)
            member = archive.getinfo(f"{key}.npy")
            if member.compress_size > size or member.file_size > LARGEST_BYTES:
                raise ValueError(
                    f"an array of {member.file_size} bytes, {member.compress_size} when packed; at most {LARGEST_BYTES} are read"
                )
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"packed by method {member.compress_type}, which numpy does not use")
            with archive.open(member) as file:
                try:
                    yield cast(BufferedIOBase, file), member.file_size
                finally:
                    place = file.tell()
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # a place that an archive names and does not have
            raise _damaged(path, key, place, size, error) from None
        raise unreadable(path, error, _AGAIN) from None
    except (ValueError, OverflowError, RuntimeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise _damaged(path, key, place, size, error) from None


def _archive(file: BinaryIO) -> zipfile.ZipFile:
    if not zipfile.is_zipfile(file):
        raise ValueError("the directory that ends an archive is missing, as if the file were cut off")
    return zipfile.ZipFile(file)


def _damaged(path: Path, key: str, place: int, size: int, error: Exception) -> DatasetError:
    where = f" at byte {place} of its array {key}" if place else ""
    return DatasetError(f"{path}: damaged{where}: {error}", expected=f"a complete .npz archive; this file ends at byte {size}", hint=_AGAIN)
