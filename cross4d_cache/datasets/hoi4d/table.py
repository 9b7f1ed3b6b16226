"""Arrays in HDF5 files of unknown origin, read frame by frame.

libhdf5 tells where the bytes of an array lie and how they are packed; they are read and unpacked here. So a damaged or hostile
chunk cannot crash libhdf5's filters or inflate to more than a chunk, a slice costs a slice, and damage is told by its byte.
"""

import itertools
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from cross4d_cache.datasets.looking import look_at, unreadable
from cross4d_cache.errors import DatasetError
from cross4d_cache.installed import needed

LARGEST = 2**28
"""Bytes of a chunk, and of the frames that share a chunk, at most."""
MOST = (10_000, 10_000, 2**20)
"""Sequences of a file, frames of a sequence and points of a frame, at most."""
_DEFLATE, _SHUFFLE = 1, 2
"""Filters, as the HDF5 format numbers them."""
_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError, AttributeError, OverflowError, SystemError)
"""What h5py raises for damaged files."""
_AGAIN = "fetch the file again, or move it out of the folder"
_REPACK = "rewrite it with `h5repack -f SHUF -f GZIP=4 OLD.h5 NEW.h5`"


@contextmanager
def open_tables(path: Path) -> Iterator["Tables"]:
    """An HDF5 file for reading.

    Raises:
        DatasetError: it is missing, cut off, or no HDF5 file.
        SettingsError: h5py is not installed.
    """
    with needed("h5py", "reads HDF5 files"):
        import h5py
    try:
        size = look_at(path, path.stat, _AGAIN).st_size
        look_at(path, lambda: path.open("rb").close(), _AGAIN)  # the system's own words if it cannot be read
        file = h5py.File(path, "r", locking=False)
    except _ERRORS as error:
        raise _damaged(path, error) from None
    try:
        yield Tables(path, size, file)
    finally:
        file.close()


class Tables:
    """The arrays of an open HDF5 file."""

    def __init__(self, path: Path, size: int, file: Any) -> None:
        self.path, self._size, self._file = path, size, file

    def __contains__(self, name: str) -> bool:
        try:
            return name in self._file
        except _ERRORS as error:
            raise _damaged(self.path, error) from None

    def __getitem__(self, name: str) -> "Table":
        """An array whose first two axes are sequences and frames.

        Raises:
            DatasetError: it is missing, is not a plain array of numbers in this file, or does not fit into the file.
        """
        import h5py

        if name not in self:
            raise DatasetError(f"{self.path}: no array `{name}`", expected="the arrays of an HOI4D file", hint=_AGAIN)
        try:
            if not isinstance(self._file.get(name, getlink=True), h5py.HardLink) or not isinstance(self._file[name], h5py.Dataset):
                raise ValueError(f"`{name}` is a link or a group, not an array of this file")
            return Table(self.path, self._size, name, self._file[name].id)
        except _ERRORS as error:
            raise _damaged(self.path, error) from None


class Table:
    """An array of numbers `[sequence, frame, ...]`; nothing is read before `frames` is iterated.

    Raises:
        ValueError: it is stored in a way that is not read here, or its sizes cannot be true.
    """

    def __init__(self, path: Path, size: int, name: str, dataset: Any) -> None:
        import h5py

        self._path, self._size, self._name, self._dataset = path, size, name, dataset
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype = dataset.dtype
        layout = dataset.get_create_plist()
        if self.dtype.kind not in "fiu" or dataset.get_type() != h5py.h5t.py_create(self.dtype):
            raise ValueError(f"`{name}` holds {self.dtype}, not plain numbers")
        if not 2 <= len(self.shape) <= 4 or min(self.shape) < 1 or any(n > most for n, most in zip(self.shape, MOST, strict=False)):
            raise ValueError(f"`{name}` is of shape {self.shape}")
        if layout.get_external_count():
            raise ValueError(f"`{name}` is stored in another file")
        self._frame_bytes = int(np.prod(self.shape[2:], dtype=object)) * self.dtype.itemsize
        self._filters = [layout.get_filter(number)[0] for number in range(layout.get_nfilters())]
        self._chunk: tuple[int, ...] | None = None
        self._start = 0
        match layout.get_layout():
            case h5py.h5d.CONTIGUOUS:
                self._start = self._check_contiguous()
            case h5py.h5d.CHUNKED:
                self._chunk = layout.get_chunk()
                self._check_chunks(self._chunk)
            case _:
                raise ValueError(f"`{name}` is stored neither contiguously nor in chunks; {_REPACK}")

    def frames(self, sequence: int, numbers: range) -> Iterator[Shaped[np.ndarray, "..."]]:
        """Those frames of a sequence.

        Raises:
            DatasetError: their bytes are missing or damaged.
        """
        with look_at(self._path, lambda: self._path.open("rb"), _AGAIN) as file:
            if self._chunk is None:
                for number in numbers:
                    start = self._start + (sequence * self.shape[1] + number) * self._frame_bytes
                    yield np.frombuffer(self._read(file.fileno(), start, self._frame_bytes), self.dtype).reshape(self.shape[2:])
                return
            held, first = None, -1
            for number in numbers:
                if held is None or number // self._chunk[1] * self._chunk[1] != first:
                    first = number // self._chunk[1] * self._chunk[1]
                    held = self._block(file.fileno(), self._chunk, sequence, first)
                yield held[number - first, ...]

    def _check_contiguous(self) -> int:
        start, total = self._dataset.get_offset(), self.shape[0] * self.shape[1] * self._frame_bytes
        if start is None:
            raise ValueError(f"`{self._name}` was never written")
        if start + total > self._size:
            raise ValueError(f"the file ends at byte {self._size}, `{self._name}` goes from byte {start} to {start + total}")
        return int(start)

    def _check_chunks(self, chunk: tuple[int, ...]) -> None:
        if others := set(self._filters) - {_DEFLATE, _SHUFFLE}:
            raise ValueError(f"`{self._name}` is packed with filter {sorted(others)[0]}; {_REPACK}")
        together = min(chunk[1], self.shape[1]) * self._frame_bytes
        if max(together, self._chunk_bytes(chunk)) > LARGEST:
            raise ValueError(f"`{self._name}` has chunks of {chunk}, more than {LARGEST} bytes at once; rewrite it with smaller ones")

    def _chunk_bytes(self, chunk: tuple[int, ...]) -> int:
        return int(np.prod(chunk, dtype=object)) * self.dtype.itemsize

    def _block(self, file: int, chunk: tuple[int, ...], sequence: int, first: int) -> Shaped[np.ndarray, "frame ..."]:
        """The frames of one sequence that lie in the same chunks."""
        count = min(chunk[1], self.shape[1] - first)
        block = np.empty((count, *self.shape[2:]), self.dtype)
        for corner in itertools.product(*(range(0, n, step) for n, step in zip(self.shape[2:], chunk[2:], strict=True))):
            data = self._unpack(file, chunk, (sequence // chunk[0] * chunk[0], first, *corner))
            place = tuple(slice(a, min(a + step, n)) for a, step, n in zip(corner, chunk[2:], self.shape[2:], strict=True))
            inside = tuple(slice(0, part.stop - part.start) for part in place)
            block[(slice(None), *place)] = data[sequence % chunk[0]][(slice(count), *inside)]
        return block

    def _unpack(self, file: int, chunk: tuple[int, ...], corner: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
        try:
            stored = self._dataset.get_chunk_info_by_coord(corner)
        except _ERRORS as error:
            raise _damaged(self._path, error) from None
        if stored.byte_offset is None:
            raise DatasetError(f"{self._path}: `{self._name}` was never written from {corner} on", hint=_AGAIN)
        size = self._chunk_bytes(chunk)
        if stored.size > 2 * size + 1024:
            raise DatasetError(f"{self._path}: a chunk of `{self._name}` takes {stored.size} bytes", expected=f"about {size}", hint=_AGAIN)
        data = self._read(file, stored.byte_offset, stored.size)
        for number in reversed(range(len(self._filters))):
            if stored.filter_mask >> number & 1:
                continue  # this chunk was stored without it
            if self._filters[number] == _DEFLATE:
                try:
                    data = zlib.decompressobj().decompress(data, size + 1)
                except zlib.error as error:
                    where = f"the chunk of `{self._name}` at byte {stored.byte_offset}"
                    raise DatasetError(f"{self._path}: {where} cannot be unpacked ({error})", hint=_AGAIN) from None
            elif len(data) == size:
                data = np.frombuffer(data, np.uint8).reshape(self.dtype.itemsize, -1).T.tobytes()
        if len(data) != size:
            found = f"the chunk of `{self._name}` at byte {stored.byte_offset} unpacks to {min(len(data), size + 1)} bytes"
            raise DatasetError(f"{self._path}: {found}", expected=f"{size}", hint=_AGAIN)
        return np.frombuffer(data, self.dtype).reshape(chunk)

    def _read(self, file: int, start: int, count: int) -> bytes:
        data = os.pread(file, count, start) if start + count <= self._size else b""
        if len(data) < count:
            found = f"the file ends at byte {os.fstat(file).st_size}, before byte {start + count}, to which `{self._name}` goes"
            raise DatasetError(f"{self._path}: {found}", hint=_AGAIN)
        return data


def _damaged(path: Path, error: Exception) -> DatasetError:
    """h5py's error in our words."""
    if isinstance(error, OSError) and error.strerror:
        return unreadable(path, error, _AGAIN)
    reason = str(error.args[0] if error.args else error).splitlines()[0]
    if ends := re.search(r"truncated file: eof = (\d+), .*stored_eof = (\d+)", reason):
        return DatasetError(f"{path}: the file ends at byte {ends[1]} of {ends[2]}", expected="a complete HDF5 file", hint=_AGAIN)
    return DatasetError(f"{path}: {reason}", expected="an HDF5 file of the HOI4D challenges", hint=_AGAIN)
