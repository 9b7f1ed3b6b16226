"""Pinhole cameras around a subject.

One fixed camera a sequence and view (paper, section 3.1): aimed at the centroid of all frames and backed off until every
point of every frame lies inside the image, whatever the units. Poses are found once in float64; on the device points are taken
relative to an anchor amid them before anything else, so that float32 stays exact far from the origin too.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from cross4d_cache.camera.density import splat_size
from cross4d_cache.camera.views import CameraBatch, SequenceViews, yaw
from cross4d_cache.types import Camera, RenderSettings


@dataclass(frozen=True, kw_only=True)
class PinholeBatch(CameraBatch):
    """A world point `p` is at `rotation @ (p - anchor) + translation`, metres. Depth is along the optical axis.

    Every point lies inside every image. `diagonal` is as in `SequenceViews`.
    """

    rotation: Float32[Tensor, "image 3 3"]
    anchor: Float32[Tensor, "image 3"]
    translation: Float32[Tensor, "image 3"]
    focal: Float32[Tensor, " image"]
    diagonal: Float32[Tensor, " image"]

    def project(
        self, points: Float32[Tensor, "point 3"], image: Int64[Tensor, " point"]
    ) -> tuple[Float32[Tensor, "point 2"], Float32[Tensor, " point"]]:
        """See `CameraBatch`."""
        local = torch.einsum("pij,pj->pi", self.rotation[image], points - self.anchor[image]) + self.translation[image]
        depth = local[:, 2]
        pixels = local[:, :2] / depth[:, None] * self.focal[image, None] + self.image_size / 2
        return pixels, depth

    def pixels_per_metre(
        self, depth: Float32[Tensor, "image height width"]
    ) -> tuple[Float32[Tensor, "image height width"], Float32[Tensor, "image height width"]]:
        """See `CameraBatch`."""
        per_metre = self.focal[:, None, None] / depth
        return per_metre, per_metre

    def tolerance(self, share: float, depth: Float32[Tensor, " point"], image: Int64[Tensor, " point"]) -> Float32[Tensor, " point"]:
        """A share of the diagonal: the same for the whole subject."""
        return share * self.diagonal[image]


def place(points: Float32[np.ndarray, "point 3"], point_offsets: Int64[np.ndarray, " boundary"], settings: RenderSettings) -> SequenceViews:
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
        rotation = yaw(2 * math.pi * view / settings.views)
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
        pixels = local[:, :2] / depth[:, None] * focal + settings.image_size / 2
        splats.append(splat_size(pixels, point_offsets, settings, scanned=False))
    return SequenceViews(
        cameras=tuple(cameras), depth_ranges=np.array(ranges), centroid=centroid, diagonal=diagonal, splat_sizes=tuple(splats)
    )


def batch(views: list[SequenceViews], device: torch.device) -> PinholeBatch:
    """The cameras of some frames, given the views of each frame's sequence: image `frame * num_views + view`."""
    cameras = [camera for frame in views for camera in frame.cameras]
    poses = np.stack([camera.world_to_camera for camera in cameras])
    anchors = np.array([frame.centroid for frame in views for _ in frame.cameras]).astype(np.float32).astype(np.float64)

    def tensor(values: Float64[np.ndarray, "..."]) -> Float32[Tensor, "..."]:
        return torch.from_numpy(values.astype(np.float32)).to(device)

    return PinholeBatch(
        rotation=tensor(poses[:, :3, :3]),
        anchor=tensor(anchors),
        translation=tensor(np.einsum("iab,ib->ia", poses[:, :3, :3], anchors) + poses[:, :3, 3]),
        focal=tensor(np.array([camera.intrinsics[0, 0] for camera in cameras])),
        depth_range=tensor(np.concatenate([frame.depth_ranges for frame in views])),
        diagonal=tensor(np.array([frame.diagonal for frame in views for _ in frame.cameras])),
        splat_sizes=tuple(size for frame in views for size in frame.splat_sizes),
        image_size=cameras[0].image_size,
    )
