"""Virtual cameras around a sequence, and projection through them.

One fixed pinhole camera a sequence and view (paper, section 3.1): aimed at the centroid of all frames and backed off until every
point of every frame lies inside the image, whatever the units. Poses are found once in float64; on the device points are taken
relative to an anchor amid them before anything else, so that float32 stays exact far from the origin too.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from cross4d_cache.types import Camera, RenderSettings

DENSITY_FRAMES = 8
"""Frames of a sequence that are looked at to learn how densely its points lie."""


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
class CameraBatch:
    """Cameras of a batch of images, on the device: a world point `p` is at `rotation @ (p - anchor) + translation`, metres."""

    rotation: Float32[Tensor, "image 3 3"]
    anchor: Float32[Tensor, "image 3"]
    translation: Float32[Tensor, "image 3"]
    focal: Float32[Tensor, " image"]
    depth_range: Float32[Tensor, "image 2"]
    diagonal: Float32[Tensor, " image"]
    splat_sizes: tuple[int, ...]
    image_size: int

    def project(
        self, points: Float32[Tensor, "point 3"], image: Int64[Tensor, " point"]
    ) -> tuple[Float32[Tensor, "point 2"], Float32[Tensor, " point"]]:
        """Pixel coordinates (x right, y down, pixel centres at +0.5) and depth of world points, each in its own image."""
        local = torch.einsum("pij,pj->pi", self.rotation[image], points - self.anchor[image]) + self.translation[image]
        depth = local[:, 2]
        pixels = local[:, :2] / depth[:, None] * self.focal[image, None] + self.image_size / 2
        return pixels, depth


def place_cameras(
    points: Float32[np.ndarray, "point 3"], point_offsets: Int64[np.ndarray, " boundary"], settings: RenderSettings
) -> SequenceViews:
    """The cameras of a sequence from all points of all its frames (metres, OpenCV axes; frames as in `PointCloudSequence`).

    View 0 looks along +z, the others follow by equal steps of yaw about the vertical axis.
    """
    centroid = points.mean(axis=0, dtype=np.float64)
    offsets = points - centroid
    diagonal = float(np.linalg.norm(np.ptp(offsets, axis=0))) or 1.0
    half_angle = math.radians(settings.field_of_view) / 2
    focal = settings.image_size / 2 / math.tan(half_angle)
    intrinsics = np.array([[focal, 0, settings.image_size / 2], [0, focal, settings.image_size / 2], [0, 0, 1]])
    cameras, ranges, splats = [], [], []
    for view in range(settings.views):
        rotation = _yaw(2 * math.pi * view / settings.views)
        local = offsets @ rotation.T
        reach = np.abs(local[:, :2]).max(axis=1) / (settings.margin * math.tan(half_angle))
        # The nearest point may sit on the axis, where any distance keeps it inside the image: keep it off the lens as well, and
        # so far that steps of float32 at its place stay well below a pixel.
        clearance = max(0.1 * diagonal, 2e-4 * float(np.linalg.norm(centroid)))
        distance = max(float((reach - local[:, 2]).max()), float(-local[:, 2].min()) + clearance)
        pose = np.eye(4)
        pose[:3, :3] = rotation
        pose[:3, 3] = -rotation @ centroid + [0, 0, distance]
        cameras.append(Camera(intrinsics=intrinsics, world_to_camera=pose, image_size=settings.image_size))
        depth = local[:, 2] + distance
        ranges.append([depth.min(), depth.max()])
        splats.append(_splat_size((local[:, :2] / depth[:, None] * focal + settings.image_size / 2), point_offsets, settings))
    return SequenceViews(
        cameras=tuple(cameras), depth_ranges=np.array(ranges), centroid=centroid, diagonal=diagonal, splat_sizes=tuple(splats)
    )


def _splat_size(pixels: Float64[np.ndarray, "point 2"], point_offsets: Int64[np.ndarray, " boundary"], settings: RenderSettings) -> int:
    """Smallest odd side, in z-buffer cells, of squares that close the gaps between the points of a surface.

    A gap is an empty square between four occupied ones. Only every third point counts, as many may lie on the far side of the
    subject. Measured on some frames; one size for the sequence, so that images do not flicker.
    """
    num_frames = len(point_offsets) - 1
    cells = (pixels * settings.supersampling).astype(np.int64)
    chosen = np.unique(np.linspace(0, num_frames - 1, min(num_frames, DENSITY_FRAMES)).astype(int))
    frames = [cells[point_offsets[t] : point_offsets[t + 1] : 3] for t in chosen]
    image = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
    column, row = np.concatenate(frames).T
    side = settings.image_size * settings.supersampling
    sizes = range(3, side // 8, 2)
    for size in sizes:
        occupied = np.zeros((len(frames), side // size + 3, side // size + 3), dtype=bool)
        occupied[image, row // size + 1, column // size + 1] = True
        above, below = occupied[:, :-2, 1:-1], occupied[:, 2:, 1:-1]
        left, right = occupied[:, 1:-1, :-2], occupied[:, 1:-1, 2:]
        gaps = ~occupied[:, 1:-1, 1:-1] & above & below & left & right
        # Where squares hold hardly more than a point each, they are too small to tell a gap from the background.
        if len(image) >= 2 * occupied.sum() and gaps.sum() <= settings.gap_share * occupied.sum():
            return size
    return max(sizes, default=3)


def batch_cameras(views: list[SequenceViews], device: torch.device) -> CameraBatch:
    """The cameras of some frames, given the views of each frame's sequence: image `frame * num_views + view`."""
    cameras = [camera for frame in views for camera in frame.cameras]
    poses = np.stack([camera.world_to_camera for camera in cameras])
    anchors = np.array([frame.centroid for frame in views for _ in frame.cameras]).astype(np.float32).astype(np.float64)

    def tensor(values: Float64[np.ndarray, "..."]) -> Float32[Tensor, "..."]:
        return torch.from_numpy(values.astype(np.float32)).to(device)

    return CameraBatch(
        rotation=tensor(poses[:, :3, :3]),
        anchor=tensor(anchors),
        translation=tensor(np.einsum("iab,ib->ia", poses[:, :3, :3], anchors) + poses[:, :3, 3]),
        focal=tensor(np.array([camera.intrinsics[0, 0] for camera in cameras])),
        depth_range=tensor(np.concatenate([frame.depth_ranges for frame in views])),
        diagonal=tensor(np.array([frame.diagonal for frame in views for _ in frame.cameras])),
        splat_sizes=tuple(size for frame in views for size in frame.splat_sizes),
        image_size=cameras[0].image_size,
    )


def _yaw(angle: float) -> Float64[np.ndarray, "3 3"]:
    """World-to-camera rotation of a camera that went round the vertical axis by `angle` radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
