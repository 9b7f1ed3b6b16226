"""Intrinsics of the four rigs: `camera_params/<rig>/intrin.npy`, or constants.

The file holds a 3 x 3 matrix for the colour image of 1920 x 1080 pixels, to which depth is aligned. Of the constants, those of rig 1
are its own (two public sources agree); the other rigs' were never published outside the files, so they get those that the official
scripts use in the files' absence, Open3D's for the colour camera of a Kinect 2.
"""

import re
from pathlib import Path

import numpy as np

from cross4d_cache.datasets.depth_image import Pinhole
from cross4d_cache.datasets.looking import look_at
from cross4d_cache.errors import DatasetError

WIDTH, HEIGHT = 1920, 1080
CONSTANTS = {1: Pinhole(fx=1060.2955, fy=1061.5068, cx=971.5211, cy=523.2619)}
"""By rig."""
KINECT = Pinhole(fx=1059.9718, fy=1059.9718, cx=975.7193, cy=545.9533)
_HEADER = re.compile(rb"\{'descr': '(<f[48])', 'fortran_order': (True|False), 'shape': \(3, 3\), \} *\n")


def rig_name(rig: int) -> str:
    """The folder of a rig."""
    return f"ZY2021080000{rig}"


def constants(rig: int) -> Pinhole:
    """The intrinsics of a rig as far as they are known without files."""
    return CONSTANTS.get(rig, KINECT)


def read_intrinsics(path: Path) -> Pinhole:
    """The intrinsics in an `intrin.npy`.

    Raises:
        DatasetError: it is missing, holds no 3 x 3 matrix of floats, or not that of a camera with such images.
    """
    hint = "fetch camera_params again, or do without it: `dataset.options` intrinsics=constants"

    def look() -> bytes:
        with path.open("rb") as file:
            return file.read(4096)

    data = look_at(path, look, hint)
    end = 10 + int.from_bytes(data[8:10], "little")
    header = _HEADER.fullmatch(data[10:end])
    if data[:8] != b"\x93NUMPY\x01\x00" or not header:
        raise DatasetError(f"{path}: not an array of 3 x 3 floats", expected="a NumPy file with the header of one", hint=hint)
    dtype = np.dtype(header[1].decode())
    if len(data) != end + 9 * dtype.itemsize:
        raise DatasetError(f"{path}: the file ends at byte {len(data)} of {end + 9 * dtype.itemsize}", hint=hint)
    matrix = np.frombuffer(data[end:], dtype).reshape((3, 3), order="F" if header[2] == b"True" else "C").tolist()
    (fx, skew, cx), (low, fy, cy), last = matrix
    if not (0 < cx < WIDTH and 0 < cy < HEIGHT and 100 < fx < 1e5 and 100 < fy < 1e5 and abs(skew) < 1 and low == 0 and last == [0, 0, 1]):
        raise DatasetError(f"{path}: {matrix}", expected=f"the intrinsics of {WIDTH} x {HEIGHT} pixels", hint=hint)
    return Pinhole(fx=fx, fy=fy, cx=cx, cy=cy)
