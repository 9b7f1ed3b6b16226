"""Which points cameras frame: all, or, where some lie far off the others, nearly all."""

import numpy as np
from jaxtyping import Bool, Float32

from cross4d_cache.types import RenderSettings

STRAY_SHARE = 0.01
"""Of the points, at most, may lie beyond the box of nearly all on each side of an axis."""

REACH = 3.0
"""Diagonals of that box within which a point is no stray: a hand that is thrown up, a far wall, the end of a walk."""


def nearly_all(points: Float32[np.ndarray, "point 3"], settings: RenderSettings) -> Bool[np.ndarray, " point"] | None:
    """The points that are no strays; None if all are not. With the framing of release 0.1 no point is one.

    A stray lies, along some axis, farther than `REACH` diagonals beyond the box that leaves out `STRAY_SHARE` of the points on
    every side. So a few far points have no say, and many have.
    """
    last = len(points) - 1
    beyond = int(len(points) * STRAY_SHARE)
    if settings.framing == "all" or beyond == 0:
        return None
    axes = np.ascontiguousarray(points.T)
    low, high = np.partition(axes, [beyond, last - beyond], axis=1)[:, [beyond, last - beyond]].T.astype(np.float64)
    reach = REACH * float(np.linalg.norm(high - low))
    least, most = low - reach, high + reach
    if (axes.min(axis=1) >= least).all() and (axes.max(axis=1) <= most).all():
        return None
    framed: Bool[np.ndarray, " point"] = ((axes >= least[:, None]) & (axes <= most[:, None])).all(axis=0)
    return framed
