"""How large a store gets and how long its build takes, from its plan and its first batches; nothing is written."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cross4d_cache.build.build import PreparedBuild, prepare_build
from cross4d_cache.build.prefetch import Preparation, SequenceReader
from cross4d_cache.build.request import BuildRequest
from cross4d_cache.build.targets import TargetMaker, WindowTargets
from cross4d_cache.build.windows import batches, windows_of
from cross4d_cache.work import Stage, Step, Work

BATCHES = 3
"""Batches that are made: the first one warms up and is not timed, if there are others."""

PACKED = 0.6
"""What zstd leaves of coordinates and patch slots (measured on MSR-Action3D)."""
COORDINATE_BYTES, SLOT_BYTES, FEATURE_BYTES = 6, 2, 2
"""Of a point, of a point in a view, and of a channel of a patch feature."""


@dataclass(frozen=True, kw_only=True)
class BuildEstimate:
    """The plan of a build. `bytes` and `seconds` are estimates from the first `measured_frames` frames, which may not be typical."""

    sequences: int
    frames: int
    parts: int
    channels: int
    points_per_frame: float
    rows_per_frame: float
    bytes: int
    seconds: float
    device: str
    measured_frames: int

    def as_record(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def store_bytes(num_frames: int, points_per_frame: float, rows_per_frame: float, channels: int, views: int) -> int:
    """About how large a store gets, with so many kept points and features of hit patches a frame; for bodies within some ten percent."""
    point_bytes = points_per_frame * PACKED * (COORDINATE_BYTES + views * SLOT_BYTES)
    return int(num_frames * (point_bytes + rows_per_frame * FEATURE_BYTES * channels))


def estimate_build(request: BuildRequest, out: Path, *, device: str = "auto", num_workers: int | None = None) -> Work[BuildEstimate]:
    """The plan of `build_store` with the same arguments, and what its first batches say of all.

    A projection that would be fitted counts as a random one: it costs the same, after a pass over some sequences.

    Raises:
        Cross4DError: as `build_store`, but for what is at `out`.
    """
    settings = request.settings
    random = settings.model_copy(update={"projection": settings.projection.replace("pca:", "random:")})
    prepared = yield from prepare_build(request.model_copy(update={"settings": random}), out, device=device, num_workers=num_workers)
    manifest, stage = prepared.plan.manifest, Stage(name="first batches", unit="batch", total=BATCHES)
    targets, ends = list[WindowTargets](), [time.perf_counter()]
    counts = []
    for done, batch in enumerate(_first_batches(prepared, num_workers), start=1):
        targets += batch
        ends.append(time.perf_counter())
        counts.append(sum(len(item.tubelets) for item in batch))
        yield Step(stage=stage, done=done)
    begin = 1 if len(counts) > 1 else 0
    frames, total = sum(counts), manifest.plan.num_frames
    points = sum(len(item.slots) for item in targets) / frames
    rows = sum(len(item.features) for item in targets) / frames
    return BuildEstimate(
        sequences=manifest.plan.num_sequences,
        frames=total,
        parts=len(prepared.plan.parts),
        channels=manifest.projection.channels,
        points_per_frame=round(points, 1),
        rows_per_frame=round(rows, 2),
        bytes=store_bytes(total, points, rows, manifest.projection.channels, manifest.views),
        seconds=round((ends[-1] - ends[begin]) / sum(counts[begin:]) * total, 1),
        device=str(prepared.teacher.device),
        measured_frames=frames,
    )


def _first_batches(prepared: PreparedBuild, num_workers: int | None) -> Iterator[list[WindowTargets]]:
    """Targets of the first batches of a build."""
    plan, teacher = prepared.plan, prepared.teacher
    manifest, size = plan.manifest, plan.settings.windows_per_batch(teacher.spec, teacher.device.type)
    maker = TargetMaker(teacher, plan.projection, manifest.render, size, correspondence=manifest.correspondence, seed=manifest.seed)
    preparation = Preparation(
        dataset=prepared.dataset, render=manifest.render, points_per_frame=manifest.points_per_frame, seed=manifest.seed, out=Path()
    )
    sequences = SequenceReader(preparation=preparation, num_workers=num_workers).sequences(info for part in plan.parts for info in part)
    windows = (item for sequence in sequences for item in windows_of(sequence, manifest.render, teacher.spec.window))
    for batch in islice(batches(windows, size), BATCHES):
        yield maker(batch)[0]
