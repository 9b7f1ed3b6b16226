"""What rendering knows of the cameras of one sequence, whatever their model."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from cross4d_cache.types import Camera


class Bounds(NamedTuple):
    """Rows `top` to `bottom` and columns `left` to `right` of an image, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def around(cls, pixels: Float64[np.ndarray, "point 2"], image_size: int) -> "Bounds":
        """Of the pixels of some points in float64, and of those one beside them, where float32 may round a point to."""
        if len(pixels) == 0:
            return cls(0, 1, 0, 1)
        left, top = (max(0, int(low) - 1) for low in np.floor(pixels.min(axis=0)))
        right, bottom = (min(image_size, int(high) + 2) for high in np.floor(pixels.max(axis=0)))
        return cls(top, bottom, left, right)

    @classmethod
    def union(cls, bounds: Iterable["Bounds"]) -> "Bounds":
        """The smallest that hold all of some."""
        tops, bottoms, lefts, rights = zip(*bounds, strict=True)
        return cls(min(tops), max(bottoms), min(lefts), max(rights))

    def grown(self, margin: int, image_size: int) -> "Bounds":
        """With `margin` more pixels on every side, as far as the image goes."""
        top, left = max(0, self.top - margin), max(0, self.left - margin)
        return Bounds(top, min(image_size, self.bottom + margin), left, min(image_size, self.right + margin))


@dataclass(frozen=True, kw_only=True)
class SequenceViews:
    """The cameras of one sequence, or of a window of it, one a view, and the depth range (nearest, farthest point; metres) of each.

    `centroid` is the mean of all points, `diagonal` that of their bounding box, metres. `splat_sizes` are the sides of the squares
    that close the gaps between points, in z-buffer cells, odd numbers. Every point that a view sees lies in its image within the
    rows and columns of `bounds` (top, bottom, left, right; pixels, ends excluded).
    """

    cameras: tuple[Camera, ...]
    depth_ranges: Float64[np.ndarray, "view 2"]
    centroid: Float64[np.ndarray, " 3"]
    diagonal: float
    splat_sizes: tuple[int, ...]
    bounds: tuple[Bounds, ...]


def yaw(angle: float) -> Float64[np.ndarray, "3 3"]:
    """World-to-camera rotation of a camera that went round the vertical axis by `angle` radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
