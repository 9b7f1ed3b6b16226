"""Points through the cameras of a batch of images, on the device."""

from collections.abc import Callable

import torch

from cross4d_cache.rendering.camera import SequenceViews
from cross4d_cache.rendering.projection import pinhole, spherical
from cross4d_cache.rendering.projection.camera_batch import CameraBatch
from cross4d_cache.types import CameraModel

__all__ = ["CameraBatch", "batch_cameras"]

BATCH: dict[CameraModel, Callable[..., CameraBatch]] = {"pinhole": pinhole.batch, "spherical": spherical.batch}


def batch_cameras(views: list[SequenceViews], device: torch.device) -> CameraBatch:
    """The cameras of some frames, given the views of each frame's sequence: image `frame * num_views + view`."""
    return BATCH[views[0].cameras[0].model](views, device)
