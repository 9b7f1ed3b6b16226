"""From windows of frames to targets, on the device: render, find correspondences, run the teacher, keep the patches that were hit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float16, Float32, Int64, Shaped, UInt16
from torch import Tensor

from cross4d_cache.build.controls import pixel_shift, random_patches, shuffle
from cross4d_cache.build.projection import Projection
from cross4d_cache.build.windows import SequenceWindow
from cross4d_cache.errors import TeacherError
from cross4d_cache.rendering.correspondence import Correspondence, correspond, hit_patches
from cross4d_cache.rendering.device import mark, seconds_between, upload
from cross4d_cache.rendering.projection import batch_cameras
from cross4d_cache.rendering.render import render
from cross4d_cache.store import NOT_VISIBLE
from cross4d_cache.teachers.teacher import Teacher
from cross4d_cache.types import RenderSettings


@dataclass(frozen=True, kw_only=True)
class WindowTargets:
    """What the store keeps of a window: the frames it owns, in order, and their tubelets.

    `slots` counts rows within a tubelet's own table; `tubelets` numbers the window's tubelets from 0 for every owned frame.
    """

    slots: UInt16[np.ndarray, "point view"]
    tubelets: Int64[np.ndarray, " frame"]
    row_counts: Int64[np.ndarray, " tubelet"]
    features: Float16[np.ndarray, "row channel"]
    patches: UInt16[np.ndarray, " row"]
    summaries: Float16[np.ndarray, "tubelet channel"]

    @property
    def num_visible(self) -> int:
        """Points that at least one view sees."""
        return int((self.slots != NOT_VISIBLE).any(axis=1).sum())


class StageSeconds(NamedTuple):
    """Seconds of each step of a batch, on a GPU those between events in its queue.

    `render` includes taking points to the device and correspondence, `teacher` projection, `gather` picking the hit patches and copying
    them out.
    """

    render: float
    teacher: float
    gather: float


@dataclass(frozen=True, kw_only=True)
class _Points:
    """The points of a batch of windows on the device, one entry a point and view."""

    coordinates: Float32[Tensor, "point 3"]
    image: Int64[Tensor, " point"]
    owned: Bool[Tensor, " point"]
    tubelet: Int64[Tensor, " point"]
    view: Int64[Tensor, " point"]


class TargetMaker:
    """Makes the targets of batches of windows; several threads may call it.

    Batches go through the teacher at few shapes, filled up with empty images to eighths of `windows_per_batch`: matrix kernels may round
    otherwise at another shape. `correspondence` is as in the manifest; `seed` decides what its controls draw.
    """

    def __init__(
        self,
        teacher: Teacher,
        projection: Projection,
        settings: RenderSettings,
        windows_per_batch: int,
        *,
        correspondence: str = "zbuffer",
        seed: int = 0,
    ) -> None:
        self.teacher, self.settings, self.windows_per_batch = teacher, settings, windows_per_batch
        self._correspondence, self._seed = correspondence, seed
        self.device = teacher.device
        self._matrix = None if projection.matrix is None else upload(projection.matrix, self.device)

    @torch.inference_mode()
    def __call__(self, windows: Sequence[SequenceWindow]) -> tuple[list[WindowTargets], StageSeconds]:
        """Targets of at most `windows_per_batch` windows.

        Raises:
            TeacherError: features that do not fit float16.
        """
        if not self.teacher.spec.makes_targets:
            return [_no_targets(item, self.settings.views) for item in windows], StageSeconds(0, 0, 0)
        marks = [mark(self.device)]
        points = self._gather(windows)
        images, correspondence = self._render(windows, points)
        marks.append(mark(self.device))
        tokens, summary = self._teach(images, len(windows))
        marks.append(mark(self.device))
        targets = self._collect(windows, points, correspondence, tokens, summary)
        marks.append(mark(self.device))
        return targets, StageSeconds(*(seconds_between(begin, end) for begin, end in pairwise(marks)))

    def _gather(self, windows: Sequence[SequenceWindow]) -> _Points:
        """Points of all frames of all windows; image `(window * frames + frame) * views + view`."""
        spec, num_views = self.teacher.spec, self.settings.views
        coordinates, owned = [], []
        for item in windows:
            offsets = item.sequence.point_offsets
            for place, frame in enumerate(item.window.frames):
                coordinates.append(item.sequence.points[offsets[frame] : offsets[frame + 1]])
                owned.append(item.window.first_owned <= place < item.window.end_owned)
        counts = np.array([len(frame) for frame in coordinates])
        total, on_device = int(counts.sum()), upload(counts, self.device)

        def per_point(values: Shaped[np.ndarray, " frame"]) -> Shaped[Tensor, " point"]:
            return upload(values, self.device).repeat_interleave(on_device, output_size=total).repeat(num_views)

        places = np.arange(len(counts))
        tubelets_per_window = spec.window // spec.tubelet
        views = torch.arange(num_views, device=self.device).repeat_interleave(total)
        return _Points(
            coordinates=upload(np.concatenate(coordinates), self.device).repeat(num_views, 1),
            image=per_point(places) * num_views + views,
            owned=per_point(np.array(owned)),
            tubelet=per_point(places // spec.window * tubelets_per_window + places % spec.window // spec.tubelet),
            view=views,
        )

    def _render(
        self, windows: Sequence[SequenceWindow], points: _Points
    ) -> tuple[Float32[Tensor, "clip frame height width"], Correspondence]:
        """Images as clips (window by window, view by view), and the correspondence of every point and view."""
        spec, num_views = self.teacher.spec, self.settings.views
        cameras = batch_cameras([item.views for item in windows for _ in item.window.frames], self.device)
        view = render(points.coordinates, points.image, cameras, self.settings)
        shift = pixel_shift(self._correspondence)
        correspondence = correspond(view, points.image, cameras, self.settings, spec.patch_size, shift=shift)
        if self._correspondence == "random":
            drawn = [random_patches(item, num_views, spec.num_patches, self._seed) for item in windows]
            correspondence = replace(correspondence, patch=upload(np.concatenate(drawn, axis=1).ravel(), self.device))
        images = view.image.unflatten(0, (len(windows), spec.window, num_views))
        return images.transpose(1, 2).flatten(0, 1), correspondence

    def _teach(
        self, images: Float32[Tensor, "clip frame height width"], num_windows: int
    ) -> tuple[Float32[Tensor, "tubelet key channel"], Float32[Tensor, "tubelet channel"]]:
        """Projected tokens of every tubelet (keys are `view * patches + patch`) and their global embeddings, the mean over views."""
        step = max(1, self.windows_per_batch // 8)
        filled = -(-num_windows // step) * step
        features = self.teacher(F.pad(images, (0, 0, 0, 0, 0, 0, 0, (filled - num_windows) * self.settings.views)))
        tokens, summary = features.tokens, features.summary
        if self._matrix is not None:
            tokens, summary = tokens @ self._matrix, summary @ self._matrix
        shape = (filled, self.settings.views)
        tokens = tokens.unflatten(0, shape)[:num_windows].transpose(1, 2).flatten(2, 3).flatten(0, 1)
        return tokens, summary.unflatten(0, shape)[:num_windows].mean(dim=1).flatten(0, 1)

    def _collect(
        self,
        windows: Sequence[SequenceWindow],
        points: _Points,
        correspondence: Correspondence,
        tokens: Float32[Tensor, "tubelet key channel"],
        summary: Float32[Tensor, "tubelet channel"],
    ) -> list[WindowTargets]:
        """Copy out only the rows of patches that an owned, visible point hits; the first step that waits for a GPU."""
        num_tubelets, num_keys, _ = tokens.shape
        key = points.view * (num_keys // self.settings.views) + correspondence.patch
        hit, slots = hit_patches(key, correspondence.visible & points.owned, points.tubelet, num_tubelets, num_keys)
        features, summaries = tokens[hit].half(), summary.half()
        if not bool(features.isfinite().all() & summaries.isfinite().all()):
            raise TeacherError(f"teacher {self.teacher.spec.name} gives features that do not fit float16", hint="use other weights")
        columns = torch.where(slots < 0, NOT_VISIBLE, slots).int().unflatten(0, (self.settings.views, -1)).T
        return self._split(
            windows,
            columns.cpu().numpy().astype(np.uint16),
            hit.sum(dim=1).cpu().numpy(),
            features.cpu().numpy(),
            hit.nonzero()[:, 1].cpu().numpy().astype(np.uint16),
            summaries.cpu().numpy(),
        )

    def _split(
        self,
        windows: Sequence[SequenceWindow],
        slots: UInt16[np.ndarray, "point view"],
        counts: Int64[np.ndarray, " tubelet"],
        features: Float16[np.ndarray, "row channel"],
        patches: UInt16[np.ndarray, " row"],
        summaries: Float16[np.ndarray, "tubelet channel"],
    ) -> list[WindowTargets]:
        """Cut the batch into windows, leaving out frames and tubelets that another window owns."""
        spec = self.teacher.spec
        per_window = spec.window // spec.tubelet
        rows = np.concatenate([[0], np.cumsum(counts)])
        targets, first_point = [], 0
        for number, item in enumerate(windows):
            sizes = np.diff(item.sequence.point_offsets)[list(item.window.frames)]
            ends = first_point + np.concatenate([[0], np.cumsum(sizes)])
            places = np.arange(item.window.first_owned, item.window.end_owned)
            owned_tubelets, tubelets = np.unique(places // spec.tubelet, return_inverse=True)
            first, end = number * per_window + owned_tubelets[0], number * per_window + owned_tubelets[-1] + 1
            owned = slots[ends[item.window.first_owned] : ends[item.window.end_owned]]
            targets.append(
                WindowTargets(
                    slots=shuffle(owned, item, self._seed) if self._correspondence == "shuffled" else owned,
                    tubelets=tubelets.astype(np.int64),
                    row_counts=counts[first:end],
                    features=features[rows[first] : rows[end]],
                    patches=patches[rows[first] : rows[end]],
                    summaries=summaries[first:end],
                )
            )
            first_point = int(ends[-1])
        return targets


def _no_targets(item: SequenceWindow, num_views: int) -> WindowTargets:
    """Of a window without a teacher: no point is visible, and every frame is a tubelet without rows."""
    owned = item.window.frames[item.window.first_owned : item.window.end_owned]
    return WindowTargets(
        slots=np.full((sum(map(item.sequence.count, owned)), num_views), NOT_VISIBLE, np.uint16),
        tubelets=np.arange(len(owned)),
        row_counts=np.zeros(len(owned), np.int64),
        features=np.empty((0, 1), np.float16),
        patches=np.empty(0, np.uint16),
        summaries=np.zeros((len(owned), 1), np.float16),
    )
