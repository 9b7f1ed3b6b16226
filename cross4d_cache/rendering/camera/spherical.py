"""Spherical cameras at the sensor: range images, for scans that go all the way round.

The sensor sits at the origin of the sequence's coordinates. View `k` of `n` covers a sector of `360 / n` degrees of azimuth about its
forward axis; columns are linear in azimuth, rows in elevation, over the elevations that the sequence has. Depth is the distance from
the sensor. Angles are found in float64.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from cross4d_cache.rendering.camera.density import counted_rows, splat_size
from cross4d_cache.rendering.camera.views import Bounds, CameraBatch, SequenceViews, yaw
from cross4d_cache.rendering.device import upload
from cross4d_cache.types import Camera, RenderSettings

TICKS = 2**20
"""Steps of azimuth in a sector: coarser than rounding by far, so that a sector's edge lies on one of them on every machine."""

LEAST_ELEVATION = math.radians(1)
"""The elevations that an image spans at least: of a planar scan, noise alone would fill it."""

GRID_STEPS = 65_535
"""Steps of the store's grid along the bounding box: a point less than one from the sensor has no direction."""


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


def place(
    points: Float32[np.ndarray, "point 3"], point_offsets: Int64[np.ndarray, " boundary"], settings: RenderSettings, *, tracked: bool
) -> SequenceViews:
    """The cameras of a sequence from all points of all its frames (metres, OpenCV axes, sensor at the origin).

    All its points count, `tracked` or not.
    """
    exact = points.astype(np.float64)
    diagonal = float(np.linalg.norm(np.ptp(exact, axis=0))) or 1.0
    distance = np.linalg.norm(exact, axis=1)
    directed = distance > diagonal / GRID_STEPS
    intrinsics, size = _intrinsics(exact[directed], settings), settings.image_size
    cameras, splats, bounds, rows = [], [], [], counted_rows(points, point_offsets, settings, directed)
    for view in range(settings.views):
        pose = np.eye(4)
        pose[:3, :3] = yaw(2 * math.pi * view / settings.views)
        cameras.append(Camera(intrinsics=intrinsics, world_to_camera=pose, image_size=size, model="spherical"))
    panorama, _ = cameras[0].project(points)  # the plane of the first image, on which the others lie beside it
    for view in range(settings.views):
        column = (panorama[:, 0] + view * size) % (settings.views * size)
        inside = directed & (column < size)
        pixels = np.stack([column, panorama[:, 1]], axis=1)
        splats.append(splat_size(pixels, [frame[inside[frame]] for frame in rows], settings, scanned=True))
        # Whole rows: a point on the edge of its sector may round into the next one.
        bounds.append(Bounds.around(pixels[inside], size)._replace(left=0, right=size))
    # One range for all views, so that a surface that goes on in the next one keeps its brightness.
    seen = distance[directed] if directed.any() else np.ones(1)
    return SequenceViews(
        cameras=tuple(cameras),
        depth_ranges=np.tile([seen.min(), seen.max()], (settings.views, 1)),
        centroid=exact.mean(axis=0),
        diagonal=diagonal,
        splat_sizes=tuple(splats),
        bounds=tuple(bounds),
    )


def _intrinsics(points: Float64[np.ndarray, "point 3"], settings: RenderSettings) -> Float64[np.ndarray, "3 3"]:
    """Pixels per radian, and the image's centre: a sector fills the width, the elevations of the points `margin` of the height."""
    size = settings.image_size
    elevation = np.arctan2(points[:, 1], np.hypot(points[:, 0], points[:, 2])) if len(points) else np.zeros(1)
    low, high = float(elevation.min()), float(elevation.max())
    down = size * settings.margin / max(high - low, LEAST_ELEVATION)
    return np.array([[size * settings.views / (2 * math.pi), 0, size / 2], [0, down, size / 2 - down * (low + high) / 2], [0, 0, 1]])


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
