"""Classes of what does not move: the labelled static reconstruction (`3Dseg/label.txt`), looked up by nearest neighbour.

A line holds x, y, z in metres, and its last two columns are semantic and instance id.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt16

from cross4d_cache.datasets.hoi4d.labels import PART_NAMES
from cross4d_cache.datasets.looking import look_at, unreadable
from cross4d_cache.errors import DatasetError

LARGEST_FILE = 2**28
"""Bytes of a `label.txt`; about six million points."""
_HINT = "fetch the file again, or read without it: `dataset.options` labels=false"


class Background:
    """The labelled points of a static reconstruction, in its frame of reference, metres.

    Raises:
        DatasetError: the file is missing, too large, or a line is not five or more numbers with a semantic id.
    """

    def __init__(self, path: Path) -> None:
        rows = _read(path)
        wrong = ~(np.isfinite(rows).all(axis=1) & (np.abs(rows[:, :3]) < 1e6).all(axis=1) & np.isin(rows[:, 3], np.arange(len(PART_NAMES))))
        if wrong.any():
            row = int(wrong.argmax())
            raise _damaged(path, f"point {row} is {rows[row].tolist()}")
        from scipy.spatial import cKDTree  # a third of a second, which no other dataset should wait for

        self._tree = cKDTree(rows[:, :3])
        self._classes = rows[:, 3].astype(np.uint16)

    def classes(self, points: Float32[np.ndarray, "point 3"]) -> UInt16[np.ndarray, " point"]:
        """The class of the nearest labelled point."""
        nearest: UInt16[np.ndarray, " point"] = self._classes[self._tree.query(points)[1]]
        return nearest


def _read(path: Path) -> Float32[np.ndarray, "row 5"]:
    try:
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise _damaged(path, f"{size} bytes, more than {LARGEST_FILE}")
        with look_at(path, lambda: path.open(encoding="latin-1"), _HINT) as lines:
            if size == 0 or not lines.readline().strip():
                raise _damaged(path, "the first line is empty")
            lines.seek(0)
            with np.errstate(over="ignore"):
                rows = np.loadtxt(lines, np.float32, comments=None, usecols=(0, 1, 2, -2, 4), ndmin=2)  # a fifth there is, too
    except OSError as error:
        raise unreadable(path, error, _HINT) from None
    except (ValueError, IndexError, OverflowError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from None
    return rows


def _damaged(path: Path, reason: str) -> DatasetError:
    return DatasetError(f"{path}: {reason}", expected="lines of x y z, semantic and instance id", hint=_HINT)
