"""Measuring the fidelity of a store on a sample of its frames, from its own points and cameras, and from meshes where there are any."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float64

from cross4d_cache.camera import SequenceViews, batch_cameras, place_windows
from cross4d_cache.correspondence import correspond
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.errors import DatasetError
from cross4d_cache.fidelity.agreement import Pairs, frame_targets
from cross4d_cache.fidelity.rays import depth_behind
from cross4d_cache.fidelity.report import DepthErrors, FidelityReport, Truth
from cross4d_cache.render import render
from cross4d_cache.store import Cache
from cross4d_cache.types import CachedClip, SequenceInfo

MOST_SEQUENCES = 24
FRAMES_EACH = 2
GAPS = (1, 8)
STRICT_METRES = 0.01


@dataclass(kw_only=True)
class _Tally:
    """What the sampled frames gave, each entry of one frame (of one view, where it says so)."""

    stored: list[Bool[np.ndarray, "view point"]] = field(default_factory=list)
    again: list[Bool[np.ndarray, "view point"]] = field(default_factory=list)
    hits: list[int] = field(default_factory=list)
    behind_surface: list[Float64[np.ndarray, " seen"]] = field(default_factory=list)
    surface_tolerance: list[Float64[np.ndarray, " seen"]] = field(default_factory=list)
    behind_mesh: list[Float64[np.ndarray, "view point"]] = field(default_factory=list)
    mesh_tolerance: list[Float64[np.ndarray, "view point"]] = field(default_factory=list)


class Fidelity:
    """Measures one store. Iterate over `run()`, which counts sequences; then take `report`.

    `dataset` is the one that the store was built from, for its meshes; None leaves them out.

    Raises:
        DatasetError: the dataset is not the one that the store was built from.
    """

    def __init__(self, cache: Cache, dataset: Dataset | None, *, why_no_dataset: str = "", seed: int = 0) -> None:
        self.cache, self.dataset = cache, dataset
        self._absent = {"truth": why_no_dataset} if dataset is None else {}
        self._rng = np.random.default_rng(seed)
        self._tally, self._pairs = _Tally(), {gap: Pairs(gap=gap) for gap in GAPS}
        total = len(cache.sequences)
        self.sample = sorted(set(np.linspace(0, total - 1, min(total, MOST_SEQUENCES)).round().astype(int).tolist()))
        self._infos: dict[str, SequenceInfo] = {}
        if dataset is not None:
            if dataset.fingerprint() != cache.manifest.dataset.fingerprint:
                raise DatasetError(
                    f"{dataset.root} holds other sequences than {cache.path} was built from",
                    hint="pass the folder of the build with --data",
                )
            self._infos = {info.id: info for info in dataset.sequences()}

    def run(self) -> Iterator[int]:
        """Measure sequence by sequence.

        Raises:
            CacheCorruptError: bytes of the store differ from the ones that were written.
            DatasetError: a mesh is damaged.
        """
        for done, index in enumerate(self.sample, start=1):
            info = self.cache.info(index)
            clip = self.cache.read_clip(index, np.arange(info.num_frames), labels=True)
            views = place_windows(clip.points, clip.point_offsets, self.cache.manifest.render)
            frames = {round((number + 1) * (info.num_frames - 1) / (FRAMES_EACH + 1)) for number in range(FRAMES_EACH)}
            for frame in sorted(frames):
                placed = views[self.cache.manifest.render.camera_window(frame, info.num_frames)]
                self._measure_frame(clip, frame, placed)
                self._match(clip, frame)
            yield done

    def _measure_frame(self, clip: CachedClip, frame: int, views: SequenceViews) -> None:
        tally, settings = self._tally, self.cache.manifest.render
        start, stop = int(clip.point_offsets[frame]), int(clip.point_offsets[frame + 1])
        points, rows = clip.points[start:stop], clip.rows[start:stop]
        cloud = torch.from_numpy(points).repeat(settings.views, 1)
        image = torch.arange(settings.views).repeat_interleave(len(points))
        cameras = batch_cameras([views], torch.device("cpu"))
        view = render(cloud, image, cameras, settings)
        again = correspond(view, image, cameras, settings, self.cache.manifest.teacher.patch_size).visible
        stored = (rows >= 0).T
        shape = (settings.views, len(points))
        tolerance = cameras.tolerance(settings.depth_tolerance, view.point_depth, image).double().numpy().reshape(shape)
        behind = (view.point_depth - view.surface_depth).double().numpy().reshape(shape)
        tally.stored.append(stored)
        tally.again.append(again.numpy().reshape(shape))
        tally.hits.append(len(np.unique(rows[rows >= 0])))
        tally.behind_surface.append(behind[stored])
        tally.surface_tolerance.append(tolerance[stored])
        self._cast(clip.info, frame, points, views, tolerance)

    def _cast(
        self,
        info: SequenceInfo,
        frame: int,
        points: np.ndarray,
        views: SequenceViews,
        tolerance: Float64[np.ndarray, "view point"],
    ) -> None:
        """Cast rays to the points of a frame, if its mesh is known."""
        if self.dataset is None or "truth" in self._absent:
            return
        mesh = self.dataset.mesh(self._infos[info.id], frame)
        if mesh is None:
            self._absent["truth"] = f"dataset {self.dataset.name} has no meshes"
            return
        try:
            behind = np.stack([depth_behind(mesh, points, camera) for camera in views.cameras])
        except (ImportError, OSError) as error:
            self._absent["truth"] = f"Open3D, which casts the rays, is not here ({error})"
            return
        self._tally.behind_mesh.append(behind)
        self._tally.mesh_tolerance.append(tolerance)

    def _match(self, clip: CachedClip, frame: int) -> None:
        if clip.surface_ids is None:
            self._absent["agreement"] = f"dataset {self.cache.manifest.dataset.name} has no surface ids"
            return
        before = frame_targets(clip, frame)
        for gap, pairs in self._pairs.items():
            if frame + gap < clip.info.num_frames:
                pairs.add(before, frame_targets(clip, frame + gap), self._rng)

    @property
    def report(self) -> FidelityReport:
        """What was found."""
        tally = self._tally
        stored = np.concatenate(tally.stored, axis=1)
        seen_by = stored.sum(axis=0)
        agreement = tuple(found for pairs in self._pairs.values() if (found := pairs.agreement()) is not None)
        return FidelityReport(
            sequences=len(self.sample),
            frames=len(tally.stored),
            points=stored.shape[1],
            visible_by_view=tuple(float(share) for share in stored.mean(axis=1)),
            visible=float((seen_by > 0).mean()),
            views_per_point=float(seen_by[seen_by > 0].mean()) if seen_by.any() else 0.0,
            hit_patches_per_image=float(np.mean(tally.hits)) / len(stored),
            reproduced=float((np.concatenate(tally.again, axis=1) == stored).mean()),
            surface=_errors(np.concatenate(tally.behind_surface), np.concatenate(tally.surface_tolerance)),
            truth=self._truth(stored),
            agreement=agreement or None,
            absent=self._absent if agreement else {"agreement": "no pairs of frames", **self._absent},
        )

    def _truth(self, stored: Bool[np.ndarray, "view point"]) -> Truth | None:
        if not self._tally.behind_mesh:
            return None
        behind, tolerance = (np.concatenate(held, axis=1) for held in (self._tally.behind_mesh, self._tally.mesh_tolerance))
        # A point outside a spherical view's sector is not that view's to see.
        mine = np.isfinite(tolerance)
        seen, behind, tolerance = stored[mine], behind[mine], tolerance[mine]
        (precision, recall), (strict_precision, strict_recall) = (
            _precision_recall(seen, behind <= limit) for limit in (tolerance, STRICT_METRES)
        )
        return Truth(
            precision=precision,
            recall=recall,
            strict_precision=strict_precision,
            strict_recall=strict_recall,
            depth=_errors(behind[seen], tolerance[seen]),
        )


def _errors(behind: Float64[np.ndarray, " point"], tolerance: Float64[np.ndarray, " point"]) -> DepthErrors:
    if len(behind) == 0:
        return DepthErrors(median_mm=0.0, p95_mm=0.0, beyond_tolerance=0.0)
    median, p95 = np.percentile(behind * 1000, [50, 95])
    return DepthErrors(median_mm=float(median), p95_mm=float(p95), beyond_tolerance=float((behind > tolerance).mean()))


def _precision_recall(found: Bool[np.ndarray, " point"], true: Bool[np.ndarray, " point"]) -> tuple[float, float]:
    both = float((found & true).sum())
    return both / max(float(found.sum()), 1.0), both / max(float(true.sum()), 1.0)
