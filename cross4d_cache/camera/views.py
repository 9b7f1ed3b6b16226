"""What rendering knows of cameras, whatever their model: those of one sequence, and those of a batch of images on the device."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from cross4d_cache.types import Camera


@dataclass(frozen=True, kw_only=True)
class SequenceViews:
    """The cameras of one sequence, one a view, and the depth range (nearest, farthest point; metres) that each sees.

    `centroid` is the mean of all points, `diagonal` that of their bounding box, metres. `splat_sizes` are the sides of the squares
    that close the gaps between points, in z-buffer cells, odd numbers.
    """

    cameras: tuple[Camera, ...]
    depth_ranges: Float64[np.ndarray, "view 2"]
    centroid: Float64[np.ndarray, " 3"]
    diagonal: float
    splat_sizes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CameraBatch(ABC):
    """Cameras of a batch of images, on the device; all of one model. `depth_range` and `splat_sizes` are as in `SequenceViews`."""

    depth_range: Float32[Tensor, "image 2"]
    splat_sizes: tuple[int, ...]
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
        self, depth: Float32[Tensor, "image height width"]
    ) -> tuple[Float32[Tensor, "image height width"], Float32[Tensor, "image height width"]]:
        """Columns, and rows, that a metre across the line of sight takes at each pixel of depth images."""

    @abstractmethod
    def tolerance(self, share: float, depth: Float32[Tensor, " point"], image: Int64[Tensor, " point"]) -> Float32[Tensor, " point"]:
        """How far, in metres, a point at `depth` may lie behind a surface that it is still part of; `share` is of a length."""


def yaw(angle: float) -> Float64[np.ndarray, "3 3"]:
    """World-to-camera rotation of a camera that went round the vertical axis by `angle` radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
