"""Points as 16-bit fixed point in the bounding box of their sequence: half the bytes of float32, the error stated.

The error of a coordinate is at most half a step, the box's side / 65,535 / 2: 0.015 mm for a side of 2 m.
"""

import numpy as np
from jaxtyping import Float32, Float64, UInt16

LEVELS = 65_535


def bounding_box(points: Float32[np.ndarray, "point 3"]) -> Float64[np.ndarray, "2 3"]:
    """Minimum corner and step of the fixed-point grid, metres.

    Each axis has its own step; an axis without extent has step zero.
    """
    axes = np.ascontiguousarray(points.T)  # numpy is several times as fast along rows
    low, high = axes.min(axis=1).astype(np.float64), axes.max(axis=1).astype(np.float64)
    return np.stack([low, (high - low) / LEVELS])


def encode(points: Float32[np.ndarray, "point 3"], box: Float64[np.ndarray, "2 3"]) -> UInt16[np.ndarray, "point 3"]:
    """Nearest grid node of every point; `points` in metres lie inside the box."""
    grid = np.empty(points.shape, np.uint16)
    for axis, (low, step) in enumerate(box.T):
        nodes = (points[:, axis] - low) / (step or 1.0)
        grid[:, axis] = np.rint(nodes, out=nodes).clip(0, LEVELS, out=nodes)
    return grid


def decode(grid: UInt16[np.ndarray, "point 3"], box: Float64[np.ndarray, "2 3"]) -> Float32[np.ndarray, "point 3"]:
    """Metres from grid nodes, in float32 arithmetic: `grid * step + minimum`."""
    points = np.empty(grid.shape, np.float32)
    for axis, (low, step) in enumerate(box.astype(np.float32).T):
        np.multiply(grid[:, axis], step, out=points[:, axis])
        points[:, axis] += low
    return points
