"""The depth cameras' intrinsics, which the dataset does not publish.

A skeleton gives each joint in metres and in pixels of the depth image. So a file of them tells the camera: column = cx + fx x / z and
row = cy - fy y / z, with y up. Cameras with the same number were not the same device in all setups.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float64

from cross4d_cache.datasets.depth_image import Pinhole
from cross4d_cache.datasets.ntu_rgbd.skeleton import Body

CONSTANTS = {
    1: Pinhole(fx=366.0, fy=366.8, cx=256.35, cy=208.5),
    2: Pinhole(fx=366.9, fy=367.5, cx=256.35, cy=208.4),
    3: Pinhole(fx=366.3, fy=366.6, cx=262.5, cy=209.8),
}
"""By camera number, measured from skeletons of the setups 1, 2 and 4. In setup 3, camera 1 has its centre 6 px further right."""

_NOMINAL = Pinhole(fx=366.0, fy=366.8, cx=259.0, cy=209.0)
_WIDEST, _CLOSEST = 20.0, 1.0
"""Pixels off the camera that all resemble, and off the first fit."""
MIN_JOINTS = 100
LARGEST_RESIDUAL = 0.5
"""Root mean square, pixels; good files have at most 0.14."""


def fit_pinhole(frames: Iterable[Sequence[Body]]) -> Pinhole | None:
    """The camera that took the skeletons, by least squares over well tracked joints; `None` if these are too few or contradict it."""
    bodies = [body.joints for frame in frames for body in frame]
    joints = np.concatenate(bodies) if bodies else np.empty((0, 12))
    with np.errstate(all="ignore"):  # files hold any number
        seen = joints[(joints[:, 11] == 2) & (joints[:, 2] > 0.3) & (joints[:, 2] < 10)]
        columns = _fit_axis(seen[:, 0] / seen[:, 2], seen[:, 3], _NOMINAL.fx, _NOMINAL.cx)
        rows = _fit_axis(-seen[:, 1] / seen[:, 2], seen[:, 4], _NOMINAL.fy, _NOMINAL.cy)
    if columns is None or rows is None:
        return None
    return Pinhole(fx=columns[0], fy=rows[0], cx=columns[1], cy=rows[1])


def _fit_axis(
    slopes: Float64[np.ndarray, " joint"], pixels: Float64[np.ndarray, " joint"], focal: float, centre: float
) -> tuple[float, float] | None:
    """Focal length and centre. What lies far from the camera that all of them resemble is nonsense, and far from the fit, an outlier."""
    for limit in (_WIDEST, _CLOSEST):
        near = np.abs(centre + focal * slopes - pixels) < limit  # false for NaN
        if near.sum() < MIN_JOINTS or np.ptp(slopes[near]) < 0.05:
            return None
        design = np.stack([slopes[near], np.ones(near.sum())], axis=1)
        focal, centre = (float(value) for value in np.linalg.lstsq(design, pixels[near], rcond=None)[0])
    residual = float(np.sqrt(np.mean((design @ [focal, centre] - pixels[near]) ** 2)))
    plausible = abs(focal - _NOMINAL.fx) < 15 and residual < LARGEST_RESIDUAL
    return (focal, centre) if plausible else None
