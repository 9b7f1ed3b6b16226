"""Throughput of stage one beside that of its teacher alone, on the same batches, taken in turns because machines drift."""

import math
import statistics
import tempfile
import time
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32
from torch import Tensor

from cross4d_cache.build.engines.local import Build, BuildProgress
from cross4d_cache.build.plan import BuildPlan, plan_build
from cross4d_cache.build.preparation import prepare
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.build.windows import batches, windows_of
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.rendering.device import Lanes, upload
from cross4d_cache.rendering.projection import batch_cameras
from cross4d_cache.rendering.render import render
from cross4d_cache.teachers.teacher import Teacher, plan_windows
from pipelines.benchmarks.arithmetic import bfloat16_cosine, flops_per_batch
from pipelines.benchmarks.machine import MemoryWatch, folder_bytes, matmul_rate, synchronize
from pipelines.benchmarks.peer_build import NUM_POINTS, peer_build

BATCHES_ALONE = 20
"""The teacher alone is timed on at most so many batches at a time."""
WARM_UP_BATCHES = 2
PEER_FRAMES = 600


@dataclass(frozen=True, kw_only=True)
class Built:
    """A finished build: seconds by the wall clock, its own record of where they went, bytes of its store."""

    seconds: float
    progress: BuildProgress
    num_bytes: int


def sequences_for(dataset: Dataset, num_frames: int) -> int:
    """How many sequences, from the first on, hold at least `num_frames`; all of them if they do not."""
    held, count = 0, 0
    for info in dataset.sequences():
        if held >= num_frames:
            break
        held, count = held + info.num_frames, count + 1
    return count


def build_once(dataset: Dataset, teacher: Teacher, plan: BuildPlan) -> Built:
    """Run a build into a temporary folder."""
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch) / "store.zarr"
        synchronize(teacher.device)
        begin = time.perf_counter()
        run = Build(dataset, teacher, plan, store)
        for _ in run.run():
            pass
        return Built(seconds=time.perf_counter() - begin, progress=run.progress, num_bytes=folder_bytes(store))


@dataclass(frozen=True, kw_only=True)
class Alone:
    """Seconds of the teacher alone for the same batches: one after the other, and in the two lanes in which a build runs it."""

    plain: float
    lanes: float

    @property
    def seconds(self) -> float:
        """Those of the faster way, which is what a build is compared with."""
        return min(self.plain, self.lanes)


def teach_alone(teacher: Teacher, images: Float32[Tensor, "window frame height width"], num_batches: int) -> Alone:
    """Time the teacher alone on so many batches like `images`."""

    def forget(_: int) -> None:
        teacher(images)

    seconds = []
    for lanes in (nullcontext(), Lanes(teacher.device)):
        synchronize(teacher.device)
        begin = time.perf_counter()
        with lanes as pool:
            deque((map if pool is None else pool.map)(forget, range(num_batches)), maxlen=0)
        synchronize(teacher.device)
        seconds.append(time.perf_counter() - begin)
    return Alone(plain=seconds[0], lanes=seconds[1])


def first_batch(dataset: Dataset, teacher: Teacher, plan: BuildPlan) -> Float32[Tensor, "window frame height width"]:
    """The first images that a build of one view shows its teacher, on the device, filled up to a whole batch with empty ones."""
    spec, manifest = teacher.spec, plan.manifest
    sequences = (
        prepare(info, dataset.frames(info), manifest.render, points_per_frame=manifest.points_per_frame, seed=manifest.seed)
        for part in plan.parts
        for info in part
    )
    windows = (item for sequence in sequences for item in windows_of(sequence, manifest.render, spec.window))
    size = plan.settings.windows_per_batch(spec, teacher.device.type)
    chosen = next(batches(windows, size))
    clouds, views = [], []
    for item in chosen:
        offsets = item.sequence.point_offsets
        clouds += [item.sequence.points[offsets[frame] : offsets[frame + 1]] for frame in item.window.frames]
        views += [item.views] * spec.window
    image = upload(np.repeat(np.arange(len(clouds)), [len(cloud) for cloud in clouds]), teacher.device)
    points = upload(np.concatenate(clouds), teacher.device)
    rendered = render(points, image, batch_cameras(views, teacher.device), manifest.render).image
    return F.pad(rendered.unflatten(0, (len(chosen), spec.window)), (0, 0, 0, 0, 0, 0, 0, size - len(chosen)))


def measure(dataset: Dataset, teacher: Teacher, settings: BuildSettings, *, repeats: int) -> dict[str, Any]:
    """One row of the benchmark; `ratios` are the teacher's seconds alone (the faster way) over a build's, for the same windows.

    The empty images that fill the last batch of a part count against the build.

    Every build stands between two blocks of the teacher alone and is compared with their mean, so that drift cancels.

    A video teacher sees frames twice where a last window overlaps the one before, so a build shows it more frames than it stores:
    `frames_ratio`, of frames a second, has that in it.
    """
    spec, device = teacher.spec, teacher.device
    plan = plan_build(dataset, teacher, settings)
    images = first_batch(dataset, teacher, plan)
    num_windows = sum(len(plan_windows(info.num_frames, spec.window)) for part in plan.parts for info in part)
    num_batches = min(math.ceil(num_windows / len(images)), BATCHES_ALONE)
    before = _warm_up(dataset, teacher, settings, images)
    alone, builds, peaks = [teach_alone(teacher, images, num_batches)], list[Built](), [before]  # memory of earlier work may be given back
    for _ in range(repeats):
        with MemoryWatch() as memory:
            builds.append(build_once(dataset, teacher, plan))
        peaks.append(memory.peak)
        alone.append(teach_alone(teacher, images, num_batches))
    row: dict[str, Any] = {
        "model": spec.name,
        "image_size": spec.image_size,
        "window": spec.window,
        "dtype": spec.dtype,
        "dataset": dataset.name,
        "frames": plan.manifest.plan.num_frames,
        "sequences": plan.manifest.plan.num_sequences,
        "batch_frames": images.shape[0] * images.shape[1],
        "frames_shown": num_windows * spec.window,
        "host_megabytes_before": round(before),
        "host_megabytes_peak": round(max(peaks)),
        "device_megabytes_peak": round(torch.cuda.max_memory_allocated(device) / 2**20) if device.type == "cuda" else None,
        "store_bytes": builds[-1].num_bytes,
        "stages": stage_shares(builds),
    }
    shown_alone = num_batches * images.shape[0] * images.shape[1]
    rates = _rates(alone, [built.seconds for built in builds], row["frames"], row["frames_shown"], shown_alone)
    work = _work(teacher, images, num_batches / statistics.median(block.seconds for block in alone))
    return {**row, **rates, **work, "bfloat16_cosine": bfloat16_cosine(teacher, images)}


def _rates(alone: list[Alone], built: list[float], num_frames: int, num_shown: int, shown_alone: int) -> dict[str, Any]:
    """Throughput from the seconds of the blocks of the teacher alone, each of `shown_alone` frames, and of the builds between them.

    `drift`, of the slowest block to the fastest, is 1 on a machine that has nothing else to do; far above, ratios mean little.
    """
    seconds = [block.seconds for block in alone]
    teacher_rate, build_rate = shown_alone / statistics.median(seconds), num_frames / statistics.median(built)
    share = num_shown / shown_alone
    ratios = [share * (before + after) / 2 / build for (before, after), build in zip(pairwise(seconds), built, strict=True)]
    return {
        "teacher_frames_per_second": teacher_rate,
        "teacher_plain_frames_per_second": shown_alone / statistics.median(block.plain for block in alone),
        "teacher_lanes_frames_per_second": shown_alone / statistics.median(block.lanes for block in alone),
        "build_frames_per_second": build_rate,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "frames_ratio": build_rate / teacher_rate,
        "drift": max(seconds) / min(seconds),
    }


def _work(teacher: Teacher, images: Float32[Tensor, "window frame height width"], batches_per_second: float) -> dict[str, float]:
    """How much the teacher computes, and what share of the device's matmul rate that is."""
    flops = flops_per_batch(teacher, images)
    matmul = matmul_rate(teacher.device, getattr(torch, teacher.spec.dtype))
    return {
        "gigaflops_per_image": flops / (images.shape[0] * images.shape[1]) / 1e9,
        "teacher_teraflops_per_second": flops * batches_per_second / 1e12,
        "matmul_teraflops_per_second": matmul / 1e12,
        "matmul_share": flops * batches_per_second / matmul,
    }


def _warm_up(dataset: Dataset, teacher: Teacher, settings: BuildSettings, images: Float32[Tensor, "window frame height width"]) -> float:
    """Let everything happen once that happens only once; the resident memory before it, megabytes."""
    with MemoryWatch() as memory:
        teach_alone(teacher, images, WARM_UP_BATCHES)
        build_once(dataset, teacher, plan_build(dataset, teacher, settings.model_copy(update={"limit": 1})))
    if teacher.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(teacher.device)
    return memory.before


def stage_shares(builds: list[Built]) -> dict[str, float]:
    """Seconds that each stage was busy, as a share of the wall clock; stages overlap, and reading has several threads."""
    stages = [field.name for field in fields(BuildProgress) if field.name.endswith("_seconds") and field.name != "wall_seconds"]
    wall = sum(built.seconds for built in builds)
    return {stage.removesuffix("_seconds"): sum(getattr(built.progress, stage) for built in builds) / wall for stage in stages}


def compare_with_peer(dataset: Dataset, teacher: Teacher, settings: BuildSettings) -> dict[str, Any]:
    """Time and bytes of stage one and of the plain script on the same sequences, with the same number of points a frame."""
    chosen = dataset.sequences()[: sequences_for(dataset, PEER_FRAMES)][: settings.limit]
    plan = plan_build(dataset, teacher, settings.model_copy(update={"points_per_frame": NUM_POINTS, "limit": len(chosen)}))
    built = build_once(dataset, teacher, plan)
    with tempfile.TemporaryDirectory() as scratch:
        seconds, num_bytes = peer_build(dataset, teacher, chosen, Path(scratch))
    return {
        "frames": sum(info.num_frames for info in chosen),
        "points_per_frame": NUM_POINTS,
        "seconds": built.seconds,
        "peer_seconds": seconds,
        "speedup": seconds / built.seconds,
        "bytes": built.num_bytes,
        "peer_bytes": num_bytes,
        "bytes_saved": num_bytes / built.num_bytes,
    }
