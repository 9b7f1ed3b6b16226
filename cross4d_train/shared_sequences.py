"""Decoded sequences in one piece of memory that several processes share: whoever needs one first decodes it for all."""

import fcntl
import mmap
import os
import pickle
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from jaxtyping import Int64

from cross4d_cache.types import CachedClip

_ALIGNED = 64
"""Bytes whose multiples everything begins at."""

_FREE, _FULL, _FIRST = 0, 1, 2
"""Places of the table: where free room begins; whether a sequence found no room; then where each sequence begins, 0 for nowhere."""


class SharedSequences:
    """Room for `num_bytes` of decoded sequences out of `num_sequences`.

    The memory is an anonymous file: it needs no shared memory of a file system, of which containers have little, and it goes with the last
    process that has it open, however that ends. A process that `Workers` start inherits `descriptor`, and is sent this object.
    """

    def __init__(self, num_sequences: int, num_bytes: int) -> None:
        self._table_size = _FIRST + num_sequences
        self._size = _aligned(8 * self._table_size) + num_bytes
        self.descriptor = _anonymous_file()
        weakref.finalize(self, os.close, self.descriptor)
        os.truncate(self.descriptor, self._size)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_memory", "_table")}

    @cached_property
    def _memory(self) -> memoryview:
        return memoryview(mmap.mmap(self.descriptor, self._size))

    @cached_property
    def _table(self) -> Int64[np.ndarray, " place"]:
        return np.frombuffer(self._memory, np.int64, self._table_size)

    @property
    def is_full(self) -> bool:
        """Whether a sequence found no room: then none is decoded whole any more."""
        return bool(self._table[_FULL])

    def get(self, sequence: int) -> CachedClip | None:
        """A sequence that a process has put here; its arrays cannot be written to."""
        with self._locked():
            begin = int(self._table[_FIRST + sequence])
        if not begin:
            return None
        count = int.from_bytes(self._memory[begin : begin + 8], "little")
        sizes = np.frombuffer(self._memory, np.int64, count, begin + 8).tolist()
        ends = list(accumulate(map(_aligned, sizes), initial=begin + _aligned(8 + 8 * count)))
        record, *buffers = (self._memory[start : start + size].toreadonly() for start, size in zip(ends, sizes, strict=False))
        clip: CachedClip = pickle.loads(record, buffers=buffers)
        return clip

    def put(self, sequence: int, clip: CachedClip) -> None:
        """Keep a sequence, if it fits and no other process was first."""
        buffers: list[pickle.PickleBuffer] = []
        record = pickle.dumps(clip, protocol=5, buffer_callback=buffers.append)
        content = [memoryview(record), *(buffer.raw() for buffer in buffers)]
        counted = np.array([len(content), *(piece.nbytes for piece in content)], np.int64)
        pieces = [counted.data.cast("B"), *content]
        with self._locked():
            table = self._table
            if not table[_FREE]:
                table[_FREE] = _aligned(8 * self._table_size)
            begin = int(table[_FREE])
            ends = list(accumulate((_aligned(piece.nbytes) for piece in pieces), initial=begin))
            if ends[-1] > self._size:
                table[_FULL] = 1
            elif not table[_FIRST + sequence]:
                for start, piece in zip(ends, pieces, strict=False):
                    self._memory[start : start + piece.nbytes] = piece
                table[_FREE], table[_FIRST + sequence] = ends[-1], begin

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def _anonymous_file() -> int:
    """The descriptor of a file without a name."""
    try:
        return os.memfd_create("cross4d")
    except (AttributeError, OSError):  # Linux alone has it
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
