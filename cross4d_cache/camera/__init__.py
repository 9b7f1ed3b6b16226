"""Virtual cameras of a sequence, by model, and projection through them."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float32, Int64

from cross4d_cache.camera import pinhole, spherical
from cross4d_cache.camera.views import CameraBatch, SequenceViews
from cross4d_cache.types import CameraModel, RenderSettings

__all__ = ["CameraBatch", "SequenceViews", "batch_cameras", "place_cameras"]

PLACE: dict[CameraModel, Callable[..., SequenceViews]] = {"pinhole": pinhole.place, "spherical": spherical.place}
BATCH: dict[CameraModel, Callable[..., CameraBatch]] = {"pinhole": pinhole.batch, "spherical": spherical.batch}


def place_cameras(
    points: Float32[np.ndarray, "point 3"], point_offsets: Int64[np.ndarray, " boundary"], settings: RenderSettings
) -> SequenceViews:
    """The cameras of a sequence from all points of all its frames (metres, OpenCV axes; frames as in `PointCloudSequence`)."""
    return PLACE[settings.camera_model](points, point_offsets, settings)


def batch_cameras(views: list[SequenceViews], device: torch.device) -> CameraBatch:
    """The cameras of some frames, given the views of each frame's sequence: image `frame * num_views + view`."""
    return BATCH[views[0].cameras[0].model](views, device)
