"""Camera trajectories (`3Dseg/output.log`): per frame a line `i i i+1` and four lines of a matrix, camera to world, metres.

This is the .log format of the Redwood datasets; axes are OpenCV's.
"""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from cross4d_cache.datasets.looking import look_at
from cross4d_cache.errors import DatasetError

LARGEST_FILE = 2**24
"""Bytes; a real one has about 50 thousand."""
FARTHEST = 1000.0
"""Metres from the origin that a camera may be."""
_HINT = "fetch the file again, or read without it: `dataset.options` frame_of_reference=camera `dataset.options` labels=false"


def read_trajectory(path: Path, num_frames: int) -> Float64[np.ndarray, "frame 4 4"]:
    """Camera-to-world matrices, one a frame.

    Raises:
        DatasetError: a line is not what it should be (naming it), a matrix is not rigid, or there are not `num_frames` of them.
    """
    lines = _lines(path)
    if len(lines) != 5 * num_frames:
        raise DatasetError(f"{path}: {len(lines)} lines", expected=f"{5 * num_frames}, 5 for each of the {num_frames} frames", hint=_HINT)
    poses = np.empty((num_frames, 4, 4))
    for number in range(num_frames):
        first = 5 * number
        if _numbers(path, lines, first, 3)[0] != number:
            raise DatasetError(f"{path}: line {first + 1} begins the pose {lines[first][:40]!r}", expected=f"pose {number}", hint=_HINT)
        pose = poses[number]
        pose[:] = [_numbers(path, lines, first + 1 + row, 4) for row in range(4)]
        rotation = pose[:3, :3]
        rigid = np.abs(rotation).max() < 2 and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-2) and np.linalg.det(rotation) > 0
        if not rigid or not np.allclose(pose[3], [0, 0, 0, 1], atol=1e-2) or np.abs(pose[:3, 3]).max() > FARTHEST:
            raise DatasetError(f"{path}: the matrix in lines {first + 2} to {first + 5} is not a camera's pose", hint=_HINT)
    return poses


def _lines(path: Path) -> list[str]:
    try:
        if (size := look_at(path, path.stat, _HINT).st_size) > LARGEST_FILE:
            raise DatasetError(f"{path}: {size} bytes", expected=f"at most {LARGEST_FILE}", hint=_HINT)
        text = look_at(path, lambda: path.read_text(encoding="ascii"), _HINT)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: no text at byte {error.start}", expected="five lines for each frame", hint=_HINT) from None
    return text.rstrip().split("\n")


def _numbers(path: Path, lines: list[str], number: int, count: int) -> list[float]:
    words = lines[number].split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise DatasetError(f"{path}: line {number + 1} reads {lines[number][:60]!r}", expected=f"{count} numbers", hint=_HINT)
    return values
