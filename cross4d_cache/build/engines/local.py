"""Stage one from end to end: read, render, teach, write, overlapping, part by part, resumable.

Readers run ahead in processes or threads of their own, and writers behind in threads. Batches fill across the sequences of a part,
and each device works on two at a time.
Every queue is bounded, so memory does not grow with the dataset.
"""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from cross4d_cache.build.part_builder import PartAssembly
from cross4d_cache.build.plan import BuildPlan
from cross4d_cache.build.prefetch import Preparation, SequenceReader
from cross4d_cache.build.targets import StageSeconds, TargetMaker, WindowTargets
from cross4d_cache.build.turns import Shard, Turns
from cross4d_cache.build.windows import SequenceWindow, batches, windows_of
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.errors import Cross4DError
from cross4d_cache.rendering.device import Lanes
from cross4d_cache.store import CacheWriter
from cross4d_cache.teachers.teacher import Teacher
from cross4d_cache.types import SequenceInfo

BatchTargets = tuple[list[WindowTargets], StageSeconds]

BATCHES_IN_FLIGHT = 4
"""Batches of a device that are worked on or wait for it: one more for each lane than it works on."""
WRITERS = max(1, min(4, (os.cpu_count() or 1) // 4))
"""Parts that are written at the same time."""


@dataclass(frozen=True, kw_only=True)
class PartBatch:
    """Windows of part `number` that go to a device together."""

    number: int
    windows: list[SequenceWindow]


@dataclass(kw_only=True)
class BuildProgress:
    """Where a build stands. Seconds are those each stage was busy; stages overlap, so they may add up to more than the wall clock.

    `frames_done` counts frames that earlier runs and other builders committed as well; the other counts are of this run.
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

    @property
    def note(self) -> str:
        """The share of points that are visible."""
        return f"{self.visible_points / self.points:.0%} visible" if self.points else ""

    def report(self) -> dict[str, Any]:
        """What a run did, and for how many seconds each stage was busy."""
        stages = ("wall", "read", "render", "teacher", "gather", "write")
        return {"frames_built": self.frames_built, "seconds": {name: round(getattr(self, f"{name}_seconds"), 2) for name in stages}}


class Build:
    """One run of a build at `path`. Iterate over `run()`; it yields after every batch, the same growing record each time.

    `num_workers` are the processes that read, see `SequenceReader`. `others` are the same teacher on more devices of the same kind: they
    take turns, so that a store does not depend on how many there are. Other builders may be at work on the same store; of a `shard`, only
    its parts are made, and the store is finished if they were the last ones.
    """

    def __init__(
        self,
        dataset: Dataset,
        teacher: Teacher,
        plan: BuildPlan,
        path: Path,
        num_workers: int | None = None,
        others: Sequence[Teacher] = (),
        shard: Shard | None = None,
    ) -> None:
        self.teacher, self.plan, self.shard = teacher, plan, shard
        self.writer = CacheWriter(path, plan.manifest, plan.projection.matrix)
        self.progress = BuildProgress()
        settings, manifest = plan.settings, plan.manifest
        preparation = Preparation(
            dataset=dataset, render=manifest.render, points_per_frame=manifest.points_per_frame, seed=manifest.seed, out=path
        )
        self._reader = SequenceReader(preparation=preparation, num_workers=num_workers)
        self._windows_per_batch = settings.windows_per_batch(teacher.spec, teacher.device.type)
        self._makers = [
            TargetMaker(
                each,
                plan.projection,
                manifest.render,
                self._windows_per_batch,
                correspondence=manifest.correspondence,
                seed=manifest.seed,
            )
            for each in (teacher, *others)
        ]

    @property
    def share(self) -> range:
        """Numbers of the parts that are this run's to see to."""
        count = len(self.plan.parts)
        return range(count) if self.shard is None else self.shard.parts(count)

    def num_frames(self, numbers: Iterable[int]) -> int:
        """Frames of some parts."""
        return sum(info.num_frames for number in numbers for info in self.plan.parts[number])

    def run(self) -> Iterator[BuildProgress]:
        """Build the parts that are missing, then finish the store.

        Raises:
            DatasetError: a sequence is damaged; the parts that are committed stay.
            OutputError: the store cannot be written.
            SettingsError: the cameras cannot see a sequence.
            TeacherError: features that do not fit float16.
            WorkerError: a process that reads cannot be started, was killed, or gives no answer.
        """
        progress, begin = self.progress, time.perf_counter()
        missing = [number for number in self.writer.missing() if number in self.share]
        turns = Turns(missing, self.writer.has, np.random.default_rng(), first=self.writer.first or self.shard is not None)
        progress.frames_done = self.num_frames(self.share) - self.num_frames(missing)
        yield progress
        with ThreadPoolExecutor(WRITERS) as writers, ExitStack() as devices:
            lanes = [(maker, devices.enter_context(Lanes(maker.device))) for maker in self._makers]
            parts = _Parts(self, turns, writers)
            for batch, (targets, seconds) in self._batches(turns, lanes):
                parts.add(batch, targets)
                self._count(targets, seconds)
                self._count_others(turns)
                progress.wall_seconds = time.perf_counter() - begin
                yield progress
            parts.finish()
        self._count_others(turns)
        if self.shard is None or not self.writer.missing():
            self.writer.finish()
        progress.wall_seconds = time.perf_counter() - begin
        yield progress

    def _batches(self, turns: Turns, lanes: list[tuple[TargetMaker, ThreadPoolExecutor]]) -> Iterator[tuple[PartBatch, BatchTargets]]:
        """The batches of the parts with their targets, in order."""
        waiting, devices = self._waiting(turns), cycle(lanes)
        in_flight: deque[tuple[PartBatch, Future[BatchTargets]]] = deque()
        error: Cross4DError | None = None
        while True:
            try:
                batch = next(waiting, None)
            except Cross4DError as found:  # told later: parts that were read without an error are kept
                error = found
                break
            if batch is None:
                break
            maker, lane = next(devices)
            in_flight.append((batch, lane.submit(maker, batch.windows)))
            if len(in_flight) > BATCHES_IN_FLIGHT * len(lanes):
                oldest, targets = in_flight.popleft()
                yield oldest, targets.result()
        for oldest, targets in in_flight:
            yield oldest, targets.result()
        if error is not None:
            raise error

    def _waiting(self, turns: Turns) -> Iterator[PartBatch]:
        """The batches of the parts in turn; none holds windows of two parts, so that a part's bytes follow from its sequences alone."""
        begun = deque[int]()  # by the reader, which is ahead

        def infos() -> Iterator[SequenceInfo]:
            for number in turns:
                begun.append(number)
                yield from self.plan.parts[number]

        sequences = self._reader.sequences(infos())
        render, num_frames = self.plan.manifest.render, self.teacher.spec.window
        for first in sequences:
            number = begun.popleft()
            part = chain([first], islice(sequences, len(self.plan.parts[number]) - 1))
            windows = (item for sequence in part for item in windows_of(sequence, render, num_frames))
            for batch in batches(windows, self._windows_per_batch):
                yield PartBatch(number=number, windows=batch)

    def _count(self, batch: list[WindowTargets], seconds: StageSeconds) -> None:
        progress = self.progress
        for targets in batch:
            progress.frames_built += len(targets.tubelets)
            progress.frames_done += len(targets.tubelets)
            progress.points += len(targets.slots)
            progress.visible_points += targets.num_visible
        progress.read_seconds = self._reader.seconds
        progress.render_seconds += seconds.render
        progress.teacher_seconds += seconds.teacher
        progress.gather_seconds += seconds.gather

    def _count_others(self, turns: Turns) -> None:
        while turns.skipped:
            self.progress.frames_done += self.num_frames([turns.skipped.pop()])

    def commit(self, number: int, assembly: PartAssembly) -> bool:
        """Write a part. Whether no other builder was first."""
        begin = time.perf_counter()
        was_first = self.writer.commit(number, assembly.contents())
        self.progress.write_seconds += time.perf_counter() - begin
        return was_first


class _Parts:
    """The parts of a build that are being put together, one after the other, and those that are being written."""

    def __init__(self, build: Build, turns: Turns, writers: ThreadPoolExecutor) -> None:
        self._build, self._turns, self._writers = build, turns, writers
        self._assembly, self._num_frames = PartAssembly(), 0
        self._pending: deque[Future[bool]] = deque()

    def add(self, batch: PartBatch, targets: list[WindowTargets]) -> None:
        """Take the next windows; a part that is complete goes to the writers."""
        for item, window_targets in zip(batch.windows, targets, strict=True):
            self._assembly.add(item, window_targets)
            self._num_frames += len(window_targets.tubelets)
        if self._num_frames == self._build.num_frames([batch.number]):
            self._pending.append(self._writers.submit(self._build.commit, batch.number, self._assembly))
            self._assembly, self._num_frames = PartAssembly(), 0
        while self._pending and (len(self._pending) > WRITERS or self._pending[0].done()):  # a whole part waits in memory
            self._end(self._pending.popleft())  # a full disk is told now, not after another part

    def _end(self, written: Future[bool]) -> None:
        if not written.result():
            self._turns.move()

    def finish(self) -> None:
        """Wait for the writers."""
        for written in self._pending:
            self._end(written)
