"""Projection by pinhole cameras. Points are taken relative to an anchor amid them before anything else, so that float32 stays exact far
from the origin too.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from cross4d_cache.rendering.camera import Bounds, SequenceViews
from cross4d_cache.rendering.device import upload
from cross4d_cache.rendering.projection.camera_batch import CameraBatch


@dataclass(frozen=True, kw_only=True)
class PinholeBatch(CameraBatch):
    """A world point `p` is at `rotation @ (p - anchor) + translation`, metres. Depth is along the optical axis.

    Every point but strays lies inside every image. `diagonal` is as in `SequenceViews`.
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
        offsets = (points - self.anchor.index_select(0, image))[:, :, None]
        local = torch.bmm(self.rotation.index_select(0, image), offsets)[:, :, 0] + self.translation.index_select(0, image)
        depth = local[:, 2]
        pixels = local[:, :2] * (self.focal.index_select(0, image) / depth)[:, None] + self.image_size / 2
        inside = (pixels >= 0).all(dim=1) & (pixels < self.image_size).all(dim=1) & (depth > 0)
        return pixels, torch.where(inside, depth, torch.inf)

    def pixels_per_metre(
        self, depth: Float32[Tensor, "image height width"], first_row: int
    ) -> tuple[Float32[Tensor, "image height width"], Float32[Tensor, "image height width"]]:
        """See `CameraBatch`."""
        per_metre = self.focal[:, None, None] / depth
        return per_metre, per_metre

    def tolerance(self, share: float, depth: Float32[Tensor, " point"], image: Int64[Tensor, " point"]) -> Float32[Tensor, " point"]:
        """A share of the diagonal: the same for the whole subject."""
        return (share * self.diagonal).index_select(0, image)


def batch(views: list[SequenceViews], device: torch.device) -> PinholeBatch:
    """The cameras of some frames, given the views of each frame's sequence: image `frame * num_views + view`."""
    cameras = [camera for frame in views for camera in frame.cameras]
    poses = np.stack([camera.world_to_camera for camera in cameras])
    anchors = np.array([frame.centroid for frame in views for _ in frame.cameras]).astype(np.float32).astype(np.float64)

    def tensor(values: Float64[np.ndarray, "..."]) -> Float32[Tensor, "..."]:
        return upload(values.astype(np.float32), device)

    return PinholeBatch(
        rotation=tensor(poses[:, :3, :3]),
        anchor=tensor(anchors),
        translation=tensor(np.einsum("iab,ib->ia", poses[:, :3, :3], anchors) + poses[:, :3, 3]),
        focal=tensor(np.array([camera.intrinsics[0, 0] for camera in cameras])),
        depth_range=tensor(np.concatenate([frame.depth_ranges for frame in views])),
        diagonal=tensor(np.array([frame.diagonal for frame in views for _ in frame.cameras])),
        splat_sizes=tuple(size for frame in views for size in frame.splat_sizes),
        bounds=Bounds.union(bounds for frame in views for bounds in frame.bounds),
        image_size=cameras[0].image_size,
    )
