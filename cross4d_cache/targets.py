"""From windows of frames to targets, on the device: render, find correspondences, run the teacher, keep the patches that were hit."""

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float16, Float32, Int64, Shaped, UInt16
from torch import Tensor

from cross4d_cache.camera import batch_cameras
from cross4d_cache.correspondence import Correspondence, correspond, hit_patches
from cross4d_cache.errors import TeacherError
from cross4d_cache.frames import PreparedSequence
from cross4d_cache.projection import Projection
from cross4d_cache.render import render
from cross4d_cache.store import NOT_VISIBLE
from cross4d_cache.teachers.teacher import Teacher, Window
from cross4d_cache.types import RenderSettings


@dataclass(frozen=True, kw_only=True)
class SequenceWindow:
    """A window of a prepared sequence."""

    sequence: PreparedSequence
    window: Window


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


@dataclass(kw_only=True)
class Stopwatch:
    """Seconds spent on each step, with the device drained at each reading.

    `render` includes gathering points and correspondence, `teacher` projection, `gather` picking the hit patches and copying them out.
    """

    render: float = 0.0
    teacher: float = 0.0
    gather: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _Points:
    """The points of a batch of windows on the device, one entry a point and view."""

    coordinates: Float32[Tensor, "point 3"]
    image: Int64[Tensor, " point"]
    owned: Bool[Tensor, " point"]
    tubelet: Int64[Tensor, " point"]
    view: Int64[Tensor, " point"]


class TargetMaker:
    """Makes the targets of batches of windows.

    Every batch goes through the teacher at the same shape, filled up with empty images, so that a target does not depend on how
    frames were batched. With a `shuffle_seed`, the targets of a frame are permuted among its visible points.
    """

    def __init__(
        self,
        teacher: Teacher,
        projection: Projection,
        settings: RenderSettings,
        windows_per_batch: int,
        *,
        shuffle_seed: int | None = None,
    ) -> None:
        self.teacher, self.settings, self.windows_per_batch, self._shuffle_seed = teacher, settings, windows_per_batch, shuffle_seed
        self.device = teacher.device
        self._matrix = None if projection.matrix is None else torch.from_numpy(projection.matrix).to(self.device)
        self.stopwatch = Stopwatch()

    @torch.inference_mode()
    def __call__(self, windows: Sequence[SequenceWindow]) -> list[WindowTargets]:
        """Targets of at most `windows_per_batch` windows.

        Raises:
            TeacherError: features that do not fit float16.
        """
        start = time.perf_counter()
        points = self._gather(windows)
        images, correspondence = self._render(windows, points)
        self._drain()
        rendered = time.perf_counter()
        tokens, summary = self._teach(images, len(windows))
        self._drain()
        taught = time.perf_counter()
        targets = self._collect(windows, points, correspondence, tokens, summary)
        self.stopwatch.render += rendered - start
        self.stopwatch.teacher += taught - rendered
        self.stopwatch.gather += time.perf_counter() - taught
        return targets

    def _drain(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _gather(self, windows: Sequence[SequenceWindow]) -> _Points:
        """Points of all frames of all windows; image `(window * frames + frame) * views + view`."""
        spec, num_views = self.teacher.spec, self.settings.views
        coordinates, counts, owned = [], [], []
        for item in windows:
            offsets = item.sequence.point_offsets
            for place, frame in enumerate(item.window.frames):
                coordinates.append(item.sequence.points[offsets[frame] : offsets[frame + 1]])
                counts.append(len(coordinates[-1]))
                owned.append(item.window.first_owned <= place < item.window.end_owned)

        def per_point(values: Shaped[np.ndarray, " frame"]) -> Shaped[Tensor, " point"]:
            return torch.from_numpy(np.repeat(values, counts)).to(self.device)

        places = np.arange(len(counts))
        tubelets_per_window = spec.window // spec.tubelet
        tubelet = per_point(places // spec.window * tubelets_per_window + places % spec.window // spec.tubelet)
        base = per_point(places)
        xyz = torch.from_numpy(np.concatenate(coordinates)).to(self.device)
        views = torch.arange(num_views, device=self.device).repeat_interleave(len(xyz))
        return _Points(
            coordinates=xyz.repeat(num_views, 1),
            image=base.repeat(num_views) * num_views + views,
            owned=per_point(np.array(owned)).repeat(num_views),
            tubelet=tubelet.repeat(num_views),
            view=views,
        )

    def _render(
        self, windows: Sequence[SequenceWindow], points: _Points
    ) -> tuple[Float32[Tensor, "clip frame height width"], Correspondence]:
        """Images as clips (window by window, view by view), and the correspondence of every point and view."""
        cameras = batch_cameras([item.sequence.views for item in windows for _ in item.window.frames], self.device)
        view = render(points.coordinates, points.image, cameras, self.settings)
        correspondence = correspond(view, points.image, cameras, self.settings, self.teacher.spec.patch_size)
        images = view.image.unflatten(0, (len(windows), self.teacher.spec.window, self.settings.views))
        return images.transpose(1, 2).flatten(0, 1), correspondence

    def _teach(
        self, images: Float32[Tensor, "clip frame height width"], num_windows: int
    ) -> tuple[Float32[Tensor, "tubelet key channel"], Float32[Tensor, "tubelet channel"]]:
        """Projected tokens of every tubelet (keys are `view * patches + patch`) and their global embeddings, the mean over views."""
        missing = (self.windows_per_batch - num_windows) * self.settings.views
        features = self.teacher(F.pad(images, (0, 0, 0, 0, 0, 0, 0, missing)))
        tokens, summary = features.tokens, features.summary
        if self._matrix is not None:
            tokens, summary = tokens @ self._matrix, summary @ self._matrix
        shape = (self.windows_per_batch, self.settings.views)
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
        """Copy out only the rows of patches that an owned, visible point hits."""
        num_tubelets, num_keys, _ = tokens.shape
        key = points.view * (num_keys // self.settings.views) + correspondence.patch
        hit, slots = hit_patches(key, correspondence.visible & points.owned, points.tubelet, num_tubelets, num_keys)
        features = tokens[hit].half()
        summaries = summary.half()
        if not bool(features.isfinite().all() & summaries.isfinite().all()):
            raise TeacherError(f"teacher {self.teacher.spec.name} gives features that do not fit float16", hint="use other weights")
        slots = torch.where(slots < 0, NOT_VISIBLE, slots)
        columns = slots.unflatten(0, (self.settings.views, -1)).T.cpu().numpy().astype(np.uint16)
        counts = hit.sum(dim=1).cpu().numpy()
        patches = hit.nonzero()[:, 1].cpu().numpy().astype(np.uint16)
        return self._split(windows, columns, counts, features.cpu().numpy(), patches, summaries.cpu().numpy())

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
                    slots=owned if self._shuffle_seed is None else shuffle(owned, item, self._shuffle_seed),
                    tubelets=tubelets.astype(np.int64),
                    row_counts=counts[first:end],
                    features=features[rows[first] : rows[end]],
                    patches=patches[rows[first] : rows[end]],
                    summaries=summaries[first:end],
                )
            )
            first_point = int(ends[-1])
        return targets


def shuffle(slots: UInt16[np.ndarray, "point view"], item: SequenceWindow, seed: int) -> UInt16[np.ndarray, "point view"]:
    """The slots of the frames a window owns, permuted among the points of each frame that a view sees, view by view.

    A permutation depends on `seed`, the sequence's id, the frame and the view alone, so not on how frames were batched.
    """
    shuffled, start = slots.copy(), 0
    sequence = zlib.crc32(item.sequence.info.id.encode())
    for frame in item.window.frames[item.window.first_owned : item.window.end_owned]:
        end = start + int(item.sequence.point_offsets[frame + 1] - item.sequence.point_offsets[frame])
        for view, column in enumerate(shuffled[start:end].T):
            # Views from 1: zeros at the end leave a seed as it is, and [seed, sequence] is the one that points are thinned by.
            rng = np.random.default_rng([seed, sequence, frame, view + 1])
            visible = column != NOT_VISIBLE
            column[visible] = rng.permutation(column[visible])
        start = end
    return shuffled
