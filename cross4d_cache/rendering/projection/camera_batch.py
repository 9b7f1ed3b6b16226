"""What rendering knows of the cameras of a batch of images on the device, whatever their model."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float32, Int64
from torch import Tensor

from cross4d_cache.rendering.camera import Bounds


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
