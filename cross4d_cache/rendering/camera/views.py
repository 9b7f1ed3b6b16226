"""What rendering knows of cameras, whatever their model: those of one sequence, and those of a batch of images on the device."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

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


@dataclass(frozen=True, kw_only=True)
class CameraBatch(ABC):
    """Cameras of a batch of images, on the device; all of one model.

    `depth_range` and `splat_sizes` are as in `SequenceViews`, `bounds` hold those of all images.
    """

    depth_range: Float32[Tensor, "image 2"]
    splat_sizes: tuple[int, ...]
    bounds: Bounds
    image_size: int

    @abstractmethod
    def project(
        self, points: Float32[Tensor, "point 3"], image: Int64[Tensor, " point"]
    ) -> tuple[Float32[Tensor, "point 2"], Float32[Tensor, " point"]]:
        """Pixel coordinates (x right, y down, pixel centres at +0.5) and depth (metres) of world points, each in its own image.

        The depth of a point that is not in its image is infinite.
        """

    @abstractmethod
    def pixels_per_metre(
        self, depth: Float32[Tensor, "image height width"], first_row: int
    ) -> tuple[Float32[Tensor, "image height width"], Float32[Tensor, "image height width"]]:
        """Columns, and rows, that a metre across the line of sight takes at each pixel of depth images cut from `first_row` on."""

    @abstractmethod
    def tolerance(self, share: float, depth: Float32[Tensor, " point"], image: Int64[Tensor, " point"]) -> Float32[Tensor, " point"]:
        """How far, in metres, a point at `depth` may lie behind a surface that it is still part of; `share` is of a length."""


def yaw(angle: float) -> Float64[np.ndarray, "3 3"]:
    """World-to-camera rotation of a camera that went round the vertical axis by `angle` radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
