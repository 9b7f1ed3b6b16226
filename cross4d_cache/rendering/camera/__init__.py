"""Where the virtual cameras of a sequence stand, by model."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, Int64, UInt32

from cross4d_cache.rendering.camera import pinhole, spherical
from cross4d_cache.rendering.camera.density import is_tracked
from cross4d_cache.rendering.camera.framing import nearly_all
from cross4d_cache.rendering.camera.views import Bounds, SequenceViews
from cross4d_cache.types import CameraModel, RenderSettings

__all__ = ["Bounds", "SequenceViews", "place_cameras", "place_windows"]

PLACE: dict[CameraModel, Callable[..., SequenceViews]] = {"pinhole": pinhole.place, "spherical": spherical.place}


def place_cameras(
    points: Float32[np.ndarray, "point 3"],
    point_offsets: Int64[np.ndarray, " boundary"],
    settings: RenderSettings,
    *,
    tracked: bool = False,
) -> SequenceViews:
    """The cameras of a sequence from all points of all its frames (metres, OpenCV axes; frames as in `PointCloudSequence`).

    `tracked` says that all frames have the same points, moved. The density of release 0.1 does not ask. Strays, see
    `nearly_all`, have no say in anything; they lie outside the images, or where they do.
    """
    place, tracked = PLACE[settings.camera_model], tracked and settings.density == "places"
    framed = nearly_all(points, settings)
    if framed is None:
        return place(points, point_offsets, settings, tracked=tracked)
    within = np.concatenate([[0], np.cumsum(framed)])[point_offsets]
    views = place(points[framed], within, settings, tracked=tracked)
    # A stray may lie anywhere in an image, or in none.
    return replace(views, bounds=(Bounds(0, settings.image_size, 0, settings.image_size),) * settings.views)


def place_windows(
    points: Float32[np.ndarray, "point 3"],
    point_offsets: Int64[np.ndarray, " boundary"],
    settings: RenderSettings,
    surface_ids: UInt32[np.ndarray, " point"] | None = None,
) -> tuple[SequenceViews, ...]:
    """The cameras of every camera window of a sequence, each from the points of its own frames; see `RenderSettings`."""
    num_frames = len(point_offsets) - 1
    window = np.array([settings.camera_window(frame, num_frames) for frame in range(num_frames)])
    edges = np.searchsorted(window, np.arange(settings.num_camera_windows(num_frames) + 1))
    tracked, placed = is_tracked(surface_ids, point_offsets), []
    for first, end in pairwise(edges):
        start, stop = point_offsets[first], point_offsets[end]
        placed.append(place_cameras(points[start:stop], point_offsets[first : end + 1] - start, settings, tracked=tracked))
    return tuple(placed)
