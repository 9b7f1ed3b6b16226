"""Stage one from end to end: read, render, teach, write, overlapping, part by part, resumable.

Reading runs ahead in one thread and writing behind in another, both bounded, so memory does not grow with the dataset.
"""

import platform
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TypeVar, get_args

from cross4d_cache.assembly import PartAssembly
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.errors import DatasetError, SettingsError
from cross4d_cache.frames import PreparedSequence, prepare
from cross4d_cache.projection import Projection, make_projection
from cross4d_cache.selection import select_sequences
from cross4d_cache.store import NOT_VISIBLE, CacheManifest, CacheWriter, DatasetRecord, PartContents, PlanRecord
from cross4d_cache.store.digest import canonical_json, sha256_bytes
from cross4d_cache.targets import SequenceWindow, TargetMaker
from cross4d_cache.teachers.teacher import Teacher, plan_windows
from cross4d_cache.types import CameraModel, CorrespondenceRule, RenderSettings, SequenceInfo

Name = TypeVar("Name", bound=str)

READ_AHEAD = 4
"""Sequences that are read before they are needed."""


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """What a user may choose about a build, apart from dataset and teacher.

    `batch_frames` go through the teacher together, in parts of at least `frames_per_part` frames; both may only change how a device
    rounds. `limit` keeps the first sequences of the dataset only, `exclude` leaves out sequences by id.

    Raises:
        SettingsError: a number that cannot be.
    """

    points_per_frame: int = 4096
    camera_model: str = "pinhole"
    views: int = 1
    projection: str = "random:384"
    correspondence: str = "zbuffer"
    seed: int = 0
    batch_frames: int = 32
    frames_per_part: int = 2048
    limit: int | None = None
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        limit = 1 if self.limit is None else self.limit
        if min(self.points_per_frame, self.views, self.batch_frames, self.frames_per_part, limit) < 1:
            raise SettingsError("points, views, batch and limit are counts", expected="at least 1 each", hint="see --help")
        if not 0 <= self.seed < 2**63:
            raise SettingsError(f"seed {self.seed}", expected="0 or more, below 2**63", hint="pass another --seed")


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """The manifest a build will fill, the sequences of each part, and the projection."""

    manifest: CacheManifest
    parts: tuple[tuple[SequenceInfo, ...], ...]
    projection: Projection
    settings: BuildSettings


@dataclass(kw_only=True)
class BuildProgress:
    """Where a build stands. Seconds are those each stage was busy; stages overlap, so they may add up to more than the wall clock.

    `frames_done` counts frames that earlier runs committed as well; the other counts are of this run.
    """

    frames_done: int = 0
    frames_built: int = 0
    points: int = 0
    visible_points: int = 0
    read_seconds: float = 0.0
    render_seconds: float = 0.0
    teacher_seconds: float = 0.0
    gather_seconds: float = 0.0
    write_seconds: float = 0.0
    wall_seconds: float = 0.0


def plan_build(dataset: Dataset, teacher: Teacher, settings: BuildSettings) -> BuildPlan:
    """Everything that will decide the store, before any frame is read.

    Raises:
        DatasetError: a sequence that would be built is damaged.
        SettingsError: nothing to build, an excluded id that does not exist, or an unknown camera model, projection or correspondence.
    """
    chosen = select_sequences(dataset, exclude=settings.exclude, limit=settings.limit)
    if settings.views * teacher.spec.num_patches > NOT_VISIBLE:
        raise SettingsError(
            f"{settings.views} views of {teacher.spec.num_patches} patches each",
            expected=f"at most {NOT_VISIBLE} patches over all views, as many as a patch slot can tell apart",
            hint="use fewer --views or a smaller --image-size",
        )
    projection = make_projection(settings.projection, teacher.spec.channels, settings.seed)
    parts = tuple(_cut(chosen, settings.frames_per_part))
    manifest = CacheManifest(
        complete=False,
        dataset=DatasetRecord(
            name=dataset.name,
            version=dataset.version,
            options=dataset.options.model_dump(mode="json"),
            fingerprint=dataset.fingerprint(),
            protocols=dataset.protocols,
            action_names=dataset.action_names,
            part_names=dataset.part_names,
        ),
        points_per_frame=settings.points_per_frame,
        seed=settings.seed,
        render=RenderSettings(
            camera_model=_one_of(get_args(CameraModel), settings.camera_model, "camera-model"),
            views=settings.views,
            image_size=teacher.spec.image_size,
        ),
        correspondence=_one_of(get_args(CorrespondenceRule), settings.correspondence, "correspondence"),
        teacher=teacher.spec,
        projection=projection.record,
        plan=PlanRecord(
            batch_frames=settings.batch_frames,
            num_parts=len(parts),
            num_sequences=len(chosen),
            num_frames=sum(info.num_frames for info in chosen),
            sha256=sha256_bytes(canonical_json([[info.id for info in part] for part in parts])),
        ),
        software={
            "python": platform.python_version(),
            **{name: version(name) for name in ("cross4d", "torch", "transformers", "numpy", "zarr")},
        },
    )
    return BuildPlan(manifest=manifest, parts=parts, projection=projection, settings=settings)


def _one_of(names: tuple[Name, ...], name: str, option: str) -> Name:
    if name not in names:
        raise SettingsError(f"unknown {option} {name!r}", expected=" or ".join(names), hint=f"pass --{option}")
    return names[names.index(name)]


def _cut(sequences: list[SequenceInfo], frames_per_part: int) -> Iterator[tuple[SequenceInfo, ...]]:
    """Whole sequences, in order, until a part holds `frames_per_part`."""
    part: list[SequenceInfo] = []
    num_frames = 0
    for info in sequences:
        part.append(info)
        num_frames += info.num_frames
        if num_frames >= frames_per_part:
            yield tuple(part)
            part, num_frames = [], 0
    if part:
        yield tuple(part)


class Build:
    """One run of a build at `path`. Iterate over `run()`; it yields after every batch, the same growing record each time."""

    def __init__(self, dataset: Dataset, teacher: Teacher, plan: BuildPlan, path: Path) -> None:
        self.dataset, self.teacher, self.plan = dataset, teacher, plan
        self.writer = CacheWriter(path, plan.manifest, plan.projection.matrix)
        self.progress = BuildProgress()
        windows_per_batch = max(1, plan.settings.batch_frames // (teacher.spec.window * plan.settings.views))
        shuffle_seed = plan.manifest.seed if plan.manifest.correspondence == "shuffled" else None
        self._maker = TargetMaker(teacher, plan.projection, plan.manifest.render, windows_per_batch, shuffle_seed=shuffle_seed)

    def run(self) -> Iterator[BuildProgress]:
        """Build the parts that are missing, then finish the store.

        Raises:
            DatasetError: a sequence is damaged; the parts that are committed stay.
            OutputError: the store cannot be written.
        """
        progress, begin = self.progress, time.perf_counter()
        missing = self.writer.missing()
        progress.frames_done = sum(sum(info.num_frames for info in part) for n, part in enumerate(self.plan.parts) if n not in missing)
        yield progress
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            try:
                yield from self._run_parts(missing, reader, writer, begin)
            finally:
                reader.shutdown(wait=False, cancel_futures=True)  # after an error nobody needs what is being read ahead
        self.writer.finish()
        progress.wall_seconds = time.perf_counter() - begin
        yield progress

    def _run_parts(
        self, numbers: list[int], reader: ThreadPoolExecutor, writer: ThreadPoolExecutor, begin: float
    ) -> Iterator[BuildProgress]:
        progress = self.progress
        pending: Future[None] | None = None
        for number in numbers:
            assembly = PartAssembly()
            for batch in _batches(self._windows(reader, self.plan.parts[number]), self._maker.windows_per_batch):
                for item, targets in zip(batch, self._maker(batch), strict=True):
                    assembly.add(item, targets)
                    progress.frames_built += len(targets.tubelets)
                    progress.frames_done += len(targets.tubelets)
                    progress.points += len(targets.slots)
                    progress.visible_points += targets.num_visible
                watch = self._maker.stopwatch
                progress.render_seconds, progress.teacher_seconds, progress.gather_seconds = watch.render, watch.teacher, watch.gather
                progress.wall_seconds = time.perf_counter() - begin
                if pending is not None and pending.done():
                    pending.result()  # a full disk is told now, not after another part
                yield progress
            if pending is not None:
                pending.result()
            pending = writer.submit(self._commit, number, assembly.contents())
        if pending is not None:
            pending.result()

    def _windows(self, reader: ThreadPoolExecutor, part: tuple[SequenceInfo, ...]) -> Iterator[SequenceWindow]:
        """All windows of a part in order, its sequences read ahead."""
        waiting = iter(part)
        ahead = deque(reader.submit(self._read, info) for info in islice(waiting, READ_AHEAD))
        while ahead:
            sequence = ahead.popleft().result()
            ahead.extend(reader.submit(self._read, info) for info in islice(waiting, 1))
            for window in plan_windows(sequence.info.num_frames, self.teacher.spec.window):
                yield SequenceWindow(sequence=sequence, window=window)

    def _read(self, info: SequenceInfo) -> PreparedSequence:
        begin = time.perf_counter()
        settings = self.plan.manifest
        try:
            prepared = prepare(
                info, self.dataset.frames(info), settings.render, points_per_frame=settings.points_per_frame, seed=settings.seed
            )
        except DatasetError as error:
            hint = (
                "mend the file and run the same command again, which goes on from here; or leave the sequence out with"
                f" --exclude {info.id}, which changes the plan: with another --out, or after deleting {self.writer.path}"
            )
            raise DatasetError(error.found, expected=error.expected, hint=hint) from None
        self.progress.read_seconds += time.perf_counter() - begin
        return prepared

    def _commit(self, number: int, contents: PartContents) -> None:
        begin = time.perf_counter()
        self.writer.commit(number, contents)
        self.progress.write_seconds += time.perf_counter() - begin


def _batches(windows: Iterable[SequenceWindow], size: int) -> Iterator[list[SequenceWindow]]:
    """Batches of `size` windows across sequences; the last may be shorter."""
    iterator = iter(windows)
    while batch := list(islice(iterator, size)):
        yield batch
