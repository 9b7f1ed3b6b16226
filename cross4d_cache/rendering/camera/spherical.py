"""Spherical cameras at the sensor: range images, for scans that go all the way round.

The sensor sits at the origin of the sequence's coordinates. View `k` of `n` covers a sector of `360 / n` degrees of azimuth about its
forward axis; columns are linear in azimuth, rows in elevation, over the elevations that the sequence has. Depth is the distance from
the sensor. Angles are found in float64.
"""

import math

import numpy as np
from jaxtyping import Float32, Float64, Int64

from cross4d_cache.rendering.camera.density import counted_rows, splat_size
from cross4d_cache.rendering.camera.views import Bounds, SequenceViews, yaw
from cross4d_cache.types import Camera, RenderSettings

LEAST_ELEVATION = math.radians(1)
"""The elevations that an image spans at least: of a planar scan, noise alone would fill it."""

GRID_STEPS = 65_535
"""Steps of the store's grid along the bounding box: a point less than one from the sensor has no direction."""


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
        splats.append(splat_size([pixels[frame[inside[frame]]] for frame in rows], settings, scanned=True))
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
