"""Frames of a store rendered again, from its own points and cameras and by its own rules: the images that the teacher saw."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from cross4d_cache.rendering.camera import SequenceViews, place_windows
from cross4d_cache.rendering.projection import CameraBatch, batch_cameras
from cross4d_cache.rendering.render import RenderedView, render
from cross4d_cache.store import Cache
from cross4d_cache.types import CachedClip


@dataclass(frozen=True, kw_only=True)
class FrameAgain:
    """A frame as all its views see it. `image`, and what `view` says of points, have an entry for each view and point, view by view."""

    views: SequenceViews
    cameras: CameraBatch
    image: Int64[Tensor, " point"]
    view: RenderedView

    @property
    def images(self) -> Float32[np.ndarray, "view height width"]:
        """What the teacher got, before its own normalisation."""
        images: Float32[np.ndarray, "view height width"] = self.view.image.numpy()
        return images


def image_of(cache: Cache, index: int, frame: int, view: int = 0) -> Float32[np.ndarray, "height width"]:
    """A frame of sequence `index` as the teacher saw it in a view, in [0, 1]. For several frames, keep a `SequenceAgain`."""
    image: Float32[np.ndarray, "height width"] = SequenceAgain(cache, index).frame(frame).images[view]
    return image


class SequenceAgain:
    """A sequence of a store, whose frames can be rendered again. All its points are read once.

    Cameras are those of the store; what else rendering needs to know follows from the points, by the rules that the store records.
    """

    def __init__(self, cache: Cache, index: int) -> None:
        self.cache, self.index = cache, index
        self._num_frames = cache.info(index).num_frames

    @cached_property
    def whole(self) -> CachedClip:
        """All points."""
        return self.cache.read_clip(self.index, np.arange(self._num_frames), targets=False, labels=True)

    @cached_property
    def _placed(self) -> tuple[SequenceViews, ...]:
        return place_windows(self.whole.points, self.whole.point_offsets, self.cache.manifest.render, self.whole.surface_ids)

    def frame(self, number: int) -> FrameAgain:
        """One frame."""
        settings, offsets = self.cache.manifest.render, self.whole.point_offsets
        window = settings.camera_window(number, self._num_frames)
        views = replace(self._placed[window], cameras=self.cache.cameras(self.index, number))
        points = self.whole.points[offsets[number] : offsets[number + 1]]
        image = torch.arange(settings.views).repeat_interleave(len(points))
        cameras = batch_cameras([views], torch.device("cpu"))
        view = render(torch.from_numpy(points).repeat(settings.views, 1), image, cameras, settings)
        return FrameAgain(views=views, cameras=cameras, image=image, view=view)
