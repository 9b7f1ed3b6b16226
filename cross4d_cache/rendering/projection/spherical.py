"""Projection by spherical cameras at the sensor. Angles are found in float64."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from cross4d_cache.rendering.camera import Bounds, SequenceViews
from cross4d_cache.rendering.camera.spherical import GRID_STEPS
from cross4d_cache.rendering.device import upload
from cross4d_cache.rendering.projection.camera_batch import CameraBatch

TICKS = 2**20
"""Steps of azimuth in a sector: coarser than rounding by far, so that a sector's edge lies on one of them on every machine."""


@dataclass(frozen=True, kw_only=True)
class SphericalBatch(CameraBatch):
    """Image `i` is view `view[i]` of `num_views`; row coordinates are `focal * elevation + centre_row`, elevation positive downwards.

    Points no farther from the sensor than `nearest`, metres, are in no image.
    """

    view: Int64[Tensor, " image"]
    num_views: int
    focal: Float64[Tensor, " image"]
    centre_row: Float64[Tensor, " image"]
    nearest: Float64[Tensor, " image"]

    def project(
        self, points: Float32[Tensor, "point 3"], image: Int64[Tensor, " point"]
    ) -> tuple[Float32[Tensor, "point 2"], Float32[Tensor, " point"]]:
        """See `CameraBatch`. A point's azimuth is a whole number of ticks, so it lies in exactly one of the views."""
        x, y, z = points.double().unbind(1)
        across = torch.hypot(x, z)
        distance = torch.hypot(across, y)
        ticks = (torch.atan2(x, z) * (self.num_views * TICKS / (2 * math.pi))).round().long() + TICKS // 2
        inside = (-(ticks // TICKS) % self.num_views == self.view[image]) & (distance > self.nearest[image])
        column = (ticks % TICKS).double() * (self.image_size / TICKS)
        row = torch.atan2(y, across) * self.focal[image] + self.centre_row[image]
        inside &= (row >= 0) & (row < self.image_size)  # all but strays are
        return torch.stack([column, row], dim=1).float(), torch.where(inside, distance, torch.inf).float()

    def pixels_per_metre(
        self, depth: Float32[Tensor, "image height width"], first_row: int
    ) -> tuple[Float32[Tensor, "image #height #width"], Float32[Tensor, "image #height #width"]]:
        """See `CameraBatch`. Circles of equal elevation shrink towards the poles."""
        rows = torch.arange(first_row, first_row + depth.shape[1], device=depth.device) + 0.5
        elevation = (rows - self.centre_row[:, None]) / self.focal[:, None]
        per_radian = self.num_views * self.image_size / (2 * math.pi) / elevation.cos().clamp_min(1e-3)
        return per_radian.float()[:, :, None] / depth, self.focal.float()[:, None, None] / depth

    def tolerance(self, share: float, depth: Float32[Tensor, " point"], image: Int64[Tensor, " point"]) -> Float32[Tensor, " point"]:
        """A share of the point's own distance: a scan has no one size."""
        return share * depth


def batch(views: list[SequenceViews], device: torch.device) -> SphericalBatch:
    """The cameras of some frames, given the views of each frame's sequence: image `frame * num_views + view`."""
    cameras = [camera for frame in views for camera in frame.cameras]
    num_views = len(views[0].cameras)

    def tensor(values: list[float]) -> Float64[Tensor, " image"]:
        return upload(np.array(values, dtype=np.float64), device)

    return SphericalBatch(
        view=torch.arange(num_views, device=device).repeat(len(views)),
        num_views=num_views,
        focal=tensor([camera.intrinsics[1, 1] for camera in cameras]),
        centre_row=tensor([camera.intrinsics[1, 2] for camera in cameras]),
        nearest=tensor([frame.diagonal / GRID_STEPS for frame in views for _ in frame.cameras]),
        depth_range=upload(np.concatenate([frame.depth_ranges for frame in views]).astype(np.float32), device),
        splat_sizes=tuple(size for frame in views for size in frame.splat_sizes),
        bounds=Bounds.union(bounds for frame in views for bounds in frame.bounds),
        image_size=cameras[0].image_size,
    )
