"""Points that lie several times: rows of a frame at exactly the place of an earlier row.

Frames that were tiled, padded or drawn with replacement to a fixed size have them. They are rows of a file, not samples of a surface.
"""

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt64


def first_at_place(points: Float32[np.ndarray, "point 3"]) -> Bool[np.ndarray, " point"]:
    """Which points are the first at their place, all if none lies twice. Zero and minus zero are one place."""
    bits: Int64[np.ndarray, "point 3"] = (points + np.float32(0)).view(np.int32).astype(np.int64)
    mixed = np.sort(_mixed(bits))
    if (mixed[1:] != mixed[:-1]).all():  # equal places have equal numbers: no number twice, no place twice
        return np.ones(len(points), dtype=bool)
    order = np.lexsort(bits.T)  # keeps the order of equal ones
    again = (bits[order[1:]] == bits[order[:-1]]).all(axis=1)
    first = np.ones(len(points), dtype=bool)
    first[order[1:][again]] = False
    return first


def _mixed(bits: Int64[np.ndarray, "point 3"]) -> UInt64[np.ndarray, " point"]:
    """A number for each place that other places seldom share; sorting one number is several times as fast as sorting three."""
    x, y, z = bits.view(np.uint64).T
    mixed: UInt64[np.ndarray, " point"] = (x * np.uint64(0x9E3779B97F4A7C15)) ^ (y * np.uint64(0xC2B2AE3D27D4EB4F) + (z << np.uint64(21)))
    return mixed
