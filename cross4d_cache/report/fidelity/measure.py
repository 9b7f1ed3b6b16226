"""Measuring the fidelity of a store on a sample of its frames, from its own points and cameras, and from meshes where there are any."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64

from cross4d_cache.build.build import listed
from cross4d_cache.build.controls import pixel_shift
from cross4d_cache.build.request import DatasetRequest
from cross4d_cache.datasets import DATASETS
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.errors import DatasetError, SettingsError
from cross4d_cache.rendering.again import FrameAgain, SequenceAgain
from cross4d_cache.rendering.camera import SequenceViews
from cross4d_cache.rendering.correspondence import correspond
from cross4d_cache.report.fidelity.agreement import Pairs, frame_targets
from cross4d_cache.report.fidelity.rays import depth_behind
from cross4d_cache.report.fidelity.report import DepthErrors, FidelityReport, Truth
from cross4d_cache.store import Cache, open_cache
from cross4d_cache.types import CachedClip, SequenceInfo
from cross4d_cache.work import Stage, Work, steps

MOST_SEQUENCES = 24
FRAMES_EACH = 2
GAPS = (1, 8)
STRICT_METRES = 0.01


@dataclass(kw_only=True)
class _Tally:
    """What the sampled frames gave, each entry of one frame (of one view, where it says so)."""

    stored: list[Bool[np.ndarray, "view point"]] = field(default_factory=list)
    same: list[Bool[np.ndarray, "view point"]] = field(default_factory=list)
    hits: list[int] = field(default_factory=list)
    behind_surface: list[Float64[np.ndarray, " seen"]] = field(default_factory=list)
    surface_tolerance: list[Float64[np.ndarray, " seen"]] = field(default_factory=list)
    stored_cast: list[Bool[np.ndarray, "view point"]] = field(default_factory=list)
    behind_mesh: list[Float64[np.ndarray, "view point"]] = field(default_factory=list)
    mesh_tolerance: list[Float64[np.ndarray, "view point"]] = field(default_factory=list)


def measure_fidelity(store: Path | str, root: Path | None = None, options: Mapping[str, str] | None = None) -> Work[FidelityReport]:
    """How well the targets of a finished store belong to their points. Meshes are those of the raw data in `root`, read with `options`.

    Raises:
        CacheError: the store cannot be used.
        DatasetError: the raw data are not those that the store was built from.
        SettingsError: unknown option.
    """
    cache, dataset = open_cache(store), None
    if not cache.manifest.teacher.makes_targets:
        raise SettingsError(
            f"{cache.storage.place} was built without a teacher", expected="a store with targets", hint="build one with a `teacher.name`"
        )
    record = cache.manifest.dataset
    if root is not None or (DATASETS.has(record.name) and not DATASETS.find(record.name).needs_root):
        asked = DatasetRequest(name=record.name, root=root, options={**cache.manifest.reader_options, **(options or {})})
        dataset = yield from listed(asked)
    measure = Fidelity(cache, dataset, why_no_dataset="meshes lie in the folder of the raw data: pass `dataset.root`")
    yield from steps(Stage(name="measure", unit="sequence", total=len(measure.sample)), measure.run())
    return measure.report


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
                    f"{dataset.root} holds other sequences than {cache.storage.place} was built from",
                    hint="pass the folder of the build with `dataset.root`",
                )
            self._infos = {info.id: info for info in dataset.listing.sequences}

    def run(self) -> Iterator[int]:
        """Measure sequence by sequence.

        Raises:
            CacheCorruptError: bytes of the store differ from the ones that were written.
            DatasetError: a mesh is damaged.
        """
        for done, index in enumerate(self.sample, start=1):
            info = self.cache.info(index)
            again = SequenceAgain(self.cache, index)
            frames = {round((number + 1) * (info.num_frames - 1) / (FRAMES_EACH + 1)) for number in range(FRAMES_EACH)}
            for frame in sorted(frames):
                others = [frame + gap for gap in GAPS if frame + gap < info.num_frames]
                clip = self.cache.read_clip(index, np.array([frame, *others]), labels=True)
                self._measure_frame(clip, again.frame(frame))
                self._match(clip)
            yield done

    def _measure_frame(self, clip: CachedClip, frame: FrameAgain) -> None:
        """Compare the first frame of a clip with itself rendered again."""
        tally, settings = self._tally, self.cache.manifest.render
        spec, rule = self.cache.manifest.teacher, self.cache.manifest.correspondence
        points, rows = clip.points[: clip.point_offsets[1]], clip.rows[: clip.point_offsets[1]]
        view, image, cameras = frame.view, frame.image, frame.cameras
        again = correspond(view, image, cameras, settings, spec.patch_size, shift=pixel_shift(rule))
        stored, shape = (rows >= 0).T, (settings.views, len(points))
        same = again.visible.numpy().reshape(shape) == stored
        if rule not in ("shuffled", "random") and len(clip.patches):
            patches = (again.patch + image * spec.num_patches).numpy().reshape(shape)
            same &= ~stored | (patches == clip.patches[np.maximum(rows, 0)].T)
        tolerance = cameras.tolerance(settings.depth_tolerance, view.point_depth, image).double().numpy().reshape(shape)
        behind = (view.point_depth - view.surface_depth).double().numpy().reshape(shape)
        tally.stored.append(stored)
        tally.same.append(same)
        tally.hits.append(len(np.unique(rows[rows >= 0])))
        in_image = stored & np.isfinite(tolerance)  # an altered store may count points that are not
        tally.behind_surface.append(behind[in_image])
        tally.surface_tolerance.append(tolerance[in_image])
        behind_mesh = self._cast(clip, points, frame.views)
        if behind_mesh is not None:
            tally.stored_cast.append(stored)
            tally.behind_mesh.append(behind_mesh)
            tally.mesh_tolerance.append(tolerance)

    def _cast(
        self, clip: CachedClip, points: Float32[np.ndarray, "point 3"], views: SequenceViews
    ) -> Float64[np.ndarray, "view point"] | None:
        """How far the points of the first frame of a clip lie behind its mesh, if that is known."""
        if self.dataset is None or "truth" in self._absent:
            return None
        mesh = self.dataset.mesh(self._infos[clip.info.id], int(clip.frames[0]))
        if mesh is None:
            self._absent["truth"] = f"dataset {self.dataset.name} has no meshes"
            return None
        try:
            return np.stack([depth_behind(mesh, points, camera) for camera in views.cameras])
        except SettingsError as error:
            self._absent["truth"] = f"{error.found}; {error.hint}"
            return None

    def _match(self, clip: CachedClip) -> None:
        """Pair the first frame of a clip with the others."""
        if clip.surface_ids is None:
            self._absent["agreement"] = f"dataset {self.cache.manifest.dataset.name} has no surface ids"
            return
        before = frame_targets(clip, 0)
        for number, other in enumerate(clip.frames[1:].tolist(), start=1):
            self._pairs[other - int(clip.frames[0])].add(before, frame_targets(clip, number), self._rng)

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
            reproduced=float(np.concatenate(tally.same, axis=1).mean()),
            surface=_errors(np.concatenate(tally.behind_surface), np.concatenate(tally.surface_tolerance)),
            truth=self._truth(),
            agreement=agreement or None,
            absent=self._absent if agreement else {"agreement": "no pairs of frames", **self._absent},
        )

    def _truth(self) -> Truth | None:
        tally = self._tally
        if not tally.behind_mesh:
            return None
        stored = np.concatenate(tally.stored_cast, axis=1)
        behind, tolerance = (np.concatenate(held, axis=1) for held in (tally.behind_mesh, tally.mesh_tolerance))
        # A point outside a spherical view's sector is not that view's to see.
        mine = np.isfinite(tolerance)
        by_view = tuple(
            _precision_recall(seen[inside], depth[inside] <= limit[inside])
            for seen, depth, limit, inside in zip(stored, behind, tolerance, mine, strict=True)
        )
        seen, behind, tolerance = stored[mine], behind[mine], tolerance[mine]
        (precision, recall), (strict_precision, strict_recall) = (
            _precision_recall(seen, behind <= limit) for limit in (tolerance, STRICT_METRES)
        )
        return Truth(
            precision=precision,
            recall=recall,
            by_view=by_view,
            strict_precision=strict_precision,
            strict_recall=strict_recall,
            depth=_errors(behind[seen], tolerance[seen]),
        )


def _errors(behind: Float64[np.ndarray, " point"], tolerance: Float64[np.ndarray, " point"]) -> DepthErrors:
    met = behind[np.isfinite(behind)]
    median, p95 = np.percentile(met * 1000, [50, 95]) if len(met) else (0.0, 0.0)
    beyond, before = ((side > tolerance).sum() / max(len(behind), 1) for side in (behind, -behind))
    return DepthErrors(median_mm=float(median), p95_mm=float(p95), beyond_tolerance=float(beyond), before_tolerance=float(before))


def _precision_recall(found: Bool[np.ndarray, " point"], true: Bool[np.ndarray, " point"]) -> tuple[float, float]:
    both = float((found & true).sum())
    return both / max(float(found.sum()), 1.0), both / max(float(true.sum()), 1.0)
