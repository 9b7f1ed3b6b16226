"""The points of one file, and how files lay their numbers out: columns of text, or records of bytes."""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

LARGEST_BYTES = 1 << 28
"""Of a frame's file, unpacked. What is made of it on the way takes up to four times as much."""


@dataclass(frozen=True)
class Cloud:
    """The points of a file in its unit and axes, and the class numbers it has for them, if any, as it stores them.

    Points are float64 if float32 may not hold what the file says.
    """

    points: Float[np.ndarray, "point 3"]
    labels: Shaped[np.ndarray, " point"] | None = None


@dataclass(frozen=True)
class Column:
    """One or more numbers that every point has; `dtype` is numpy's word for their type in binary files."""

    name: str
    dtype: str
    count: int = 1


class Columns(tuple[Column, ...]):
    """What files hold of a point, in their order: at least one `x`, `y` and `z`.

    Raises:
        ValueError: no single `x`, `y` and `z`.
    """

    def __new__(cls, columns: Sequence[Column]) -> "Columns":
        """Check the names."""
        names = [column.name for column in columns if column.count == 1]
        if [names.count(axis) for axis in "xyz"] != [1, 1, 1]:
            raise ValueError(f"its points have the properties {', '.join(names[:20]) or '(none)'}, not x, y and z once each")
        return super().__new__(cls, columns)

    @property
    def num_bytes(self) -> int:
        """Bytes of a point in binary files."""
        return sum(np.dtype(column.dtype).itemsize * column.count for column in self)

    @property
    def num_words(self) -> int:
        """Numbers of a point."""
        return sum(column.count for column in self)

    @property
    def wanted(self) -> tuple[int, ...]:
        """The columns that are read: x, y, z, and `label` where there is one."""
        names = [column.name if column.count == 1 else "" for column in self]
        return tuple(names.index(name) for name in ("x", "y", "z", "label") if name in names)

    def from_bytes(self, data: bytes, start: int, num_points: int) -> Cloud:
        """Points that lie one after the other.

        Raises:
            ValueError: the data ends before.
        """
        end = start + num_points * self.num_bytes
        if len(data) < end:
            raise ValueError(f"ends at byte {len(data)} of {end}: {num_points} points of {self.num_bytes} bytes, from byte {start} on")
        record = np.dtype([(str(index), column.dtype, (column.count,)) for index, column in enumerate(self)])
        points = np.frombuffer(data, record, num_points, start)
        return to_cloud([points[str(index)][:, 0] for index in self.wanted])

    def from_text(self, data: bytes, start: int, num_points: int, skip: int = 0) -> Cloud:
        """Points that are lines of text, `skip` lines behind `start`.

        Raises:
            ValueError: a line that has no such numbers, or fewer lines.
        """
        if num_points * self.num_words * 2 > len(data) - start + 1:  # a digit and a blank a number
            raise ValueError(f"ends at byte {len(data)}, too early for {num_points} points of {self.num_words} numbers")
        words = [sum(column.count for column in self[:index]) for index in self.wanted]
        rows = read_rows(data, start, words, skip=skip, num_rows=num_points)
        if len(rows) != num_points:
            raise ValueError(f"ends at byte {len(data)} after {len(rows)} of {num_points} points")
        return to_cloud(list(rows.T))


def read_rows(
    data: bytes, start: int, words: Sequence[int], *, skip: int = 0, num_rows: int | None = None, delimiter: str | None = None
) -> Shaped[np.ndarray, "point word"]:
    """Some words of each line of a text; `#` begins a comment.

    Raises:
        ValueError: a word that is no number, or a line with too few; its number is counted from 0 behind `start` and `skip`.
    """
    stream = io.BytesIO(data)
    stream.seek(start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of empty lines and texts; the callers count rows
        text = io.TextIOWrapper(stream, encoding="latin1")
        rows: Shaped[np.ndarray, "point word"] = np.loadtxt(
            text, usecols=words, skiprows=skip, max_rows=num_rows, delimiter=delimiter, ndmin=2
        )
    if not rows.size:
        raise ValueError("holds no points")
    return rows


def to_cloud(columns: Sequence[Shaped[np.ndarray, " point"]]) -> Cloud:
    """A cloud of the columns x, y, z and perhaps labels."""
    exact = all(np.can_cast(column.dtype, np.float32) for column in columns[:3])
    points = np.empty((len(columns[0]), 3), np.float32 if exact else np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        for axis in range(3):
            points[:, axis] = columns[axis]
    return Cloud(points, columns[3] if len(columns) > 3 else None)
