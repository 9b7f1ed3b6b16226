"""What a cache is worth: a training that streams its targets from a store, beside the same training with the teacher in the loop.

    python -m pipelines.benchmarks.online STORE --teacher NAME[=WEIGHTS] [--size mini] [--frames 24] [--points 2048] [--stride 1]
        [--batch 16] [--steps 20] [--device cpu] [--json FILE]

Both train the same student on the same clips to the same losses. The second renders the frames of each batch and runs the teacher on all of
them at once, as a loop without a cache has to at every step; its points lie decoded in memory, its cameras are placed before. The teacher
sees single frames. The first step of each is not counted: it touches memory for the first time.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from cross4d_cache.build.preparation import PreparedSequence
from cross4d_cache.build.projection import Projection
from cross4d_cache.build.targets import TargetMaker, WindowTargets
from cross4d_cache.build.windows import SequenceWindow
from cross4d_cache.errors import SettingsError, user_errors
from cross4d_cache.rendering.camera import place_windows
from cross4d_cache.store import NOT_VISIBLE, Cache, open_cache, quantize
from cross4d_cache.teachers import load_teacher
from cross4d_cache.teachers.teacher import Teacher, Window
from cross4d_cache.types import CachedClip
from cross4d_train.clips import ClipRequest, ClipSettings
from cross4d_train.dataset import ClipDataset, join_clips, resample
from cross4d_train.loop import Pretraining, StepRecord, make_fabric
from cross4d_train.settings import EncoderSettings, RunSettings
from pipelines.benchmarks.machine import describe_machine
from pipelines.paper.recipe import parse_teachers
from pipelines.report_file import report_file

SAME = 1e-3
"""By how much the losses of both may differ, as a share: the teacher's kernels round otherwise for batches of another shape."""


class OnlineDataset(ClipDataset):
    """Clips whose targets the teacher makes when a batch is asked for."""

    def __init__(self, path: Path, clips: ClipSettings, teacher: Teacher) -> None:
        super().__init__(path, clips)
        self.teacher = teacher

    @cached_property
    def sequences(self) -> list[PreparedSequence]:
        """All sequences, decoded, their cameras placed."""
        cache = self.cache
        prepared = [item for number in range(len(cache.manifest.parts)) for item in _prepared(cache, number)]
        for item in prepared:
            assert len(item.points) == item.point_offsets[-1]
        return prepared

    def _make(self, windows: list[SequenceWindow]) -> Iterator[WindowTargets]:
        """Targets of some windows, without the empty images that fill up a build's batches."""
        manifest = self.cache.manifest
        projection = Projection(record=manifest.projection, matrix=self._matrix)
        return iter(
            TargetMaker(self.teacher, projection, manifest.render, len(windows), correspondence=manifest.correspondence)(windows)[0]
        )

    @cached_property
    def _matrix(self) -> Float32[np.ndarray, "channel_in channel_out"] | None:
        return self.cache.projection()

    def read_batch(self, requests: Sequence[ClipRequest]) -> dict[str, Any]:
        """The clips of a batch, joined; all their frames go through the teacher together."""
        chosen = [self.clips.frames(self.cache.info(request.sequence), request.start) for request in requests]
        shown = [np.unique(frames) for frames in chosen]
        windows = [self._window(request.sequence, int(frame)) for request, frames in zip(requests, shown, strict=True) for frame in frames]
        made, clips = self._make(windows), []
        for request, frames, several in zip(requests, shown, chosen, strict=True):
            clip = self._clip(request.sequence, frames, list(islice(made, len(frames))))
            clips.append(resample(clip, np.searchsorted(frames, several), request, self.clips.num_points))
        return join_clips(clips)

    def _window(self, sequence: int, frame: int) -> SequenceWindow:
        prepared, render = self.sequences[sequence], self.cache.manifest.render
        views = prepared.views[render.camera_window(frame, prepared.info.num_frames)]
        return SequenceWindow(sequence=prepared, window=Window(frames=(frame,), first_owned=0, end_owned=1), views=views)

    def _clip(self, sequence: int, frames: np.ndarray, targets: list[WindowTargets]) -> CachedClip:
        """What `Cache.read_clip` reads, of targets that were just made."""
        prepared = self.sequences[sequence]
        first = np.cumsum([0, *(len(item.features) for item in targets)])
        slots = [np.where(item.slots == NOT_VISIBLE, -1, item.slots + start) for item, start in zip(targets, first[:-1], strict=True)]
        pieces = [prepared.points[prepared.point_offsets[frame] : prepared.point_offsets[frame + 1]] for frame in frames]
        return CachedClip(
            info=prepared.info,
            frames=frames,
            points=np.concatenate(pieces),
            point_offsets=np.cumsum([0, *map(len, pieces)], dtype=np.int64),
            rows=np.concatenate(slots).astype(np.int32),
            features=np.concatenate([item.features for item in targets]),
            patches=np.concatenate([item.patches for item in targets]),
            frame_features=np.concatenate([item.summaries for item in targets]),
        )


def _prepared(cache: Cache, number: int) -> list[PreparedSequence]:
    """The sequences of a part as a build prepares them."""
    part, render, prepared = cache.part(number), cache.manifest.render, []
    for local, info in enumerate(part.infos):
        frames = part.point_offsets[part.first_frames[local] : part.first_frames[local + 1] + 1]
        grid, box = part.rows("points", int(frames[0]), int(frames[-1])), part.boxes[local]
        offsets = frames - frames[0]
        views = place_windows(quantize.decode(grid, box), offsets, render)
        prepared.append(
            PreparedSequence(
                info=info, grid=grid, box=box, point_offsets=offsets, views=views, part_labels=None, surface_ids=None, frame_actions=None
            )
        )
    return prepared


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of a step in the mean, the share of them that the loop waited for its batch, and the losses."""

    step_seconds: float
    waiting: float
    losses: list[float]


def time_steps(training: Pretraining, num_steps: int) -> Timing:
    """Train for some steps after a first one."""
    steps = training.steps()
    records: list[StepRecord] = list(islice(steps, 1))
    begin = time.perf_counter()
    records += islice(steps, num_steps)
    seconds = (time.perf_counter() - begin) / num_steps
    return Timing(
        step_seconds=seconds, waiting=statistics.mean(record.waiting for record in records[1:]), losses=[record.loss for record in records]
    )


def measure(store: Path, teacher_words: str, settings: RunSettings, device: str, num_steps: int) -> dict[str, Any]:
    """Both trainings, and how many times as fast the first is.

    Raises:
        SettingsError: the teacher is not the store's, or sees several frames at once.
    """
    cache, fabric = open_cache(store), make_fabric(device)
    [(name, weights)] = parse_teachers([teacher_words]).items()
    spec = cache.manifest.teacher
    teacher = load_teacher(name, weights, image_size=spec.image_size, layer=spec.layer, device=fabric.device, precision=spec.dtype)
    if teacher.spec.sha256 != spec.sha256 or spec.window > 1:
        raise SettingsError(
            f"{store} has targets of {spec.name} ({spec.weights})",
            expected=f"a teacher of single frames, and the same weights as those of {teacher_words}",
            hint="name the store's teacher, or build a store with this one",
        )
    cached = time_steps(Pretraining(store, settings, fabric), num_steps)
    training = Pretraining(store, settings, fabric)
    training.dataset = OnlineDataset(store, settings.clips, teacher)
    _ = training.dataset.sequences  # a lab's loop has them in memory as well
    online = time_steps(training, num_steps)
    apart = max(abs(ours - theirs) / theirs for ours, theirs in zip(online.losses, cached.losses, strict=True))
    if apart > SAME:
        raise AssertionError(f"both have to learn the same; their losses differ by {apart:.2%}")
    epoch = training.plan.steps_per_epoch
    return {
        "encoder": f"{settings.encoder.name} {settings.encoder.size}",
        "teacher": f"{spec.name} ({spec.weights}), {spec.image_size} px, {spec.dtype}",
        "clips": f"{settings.training.batch_size} of {settings.clips.num_frames} x {settings.clips.num_points}",
        "steps": num_steps,
        "cached_step_seconds": round(cached.step_seconds, 4),
        "online_step_seconds": round(online.step_seconds, 4),
        "times": round(online.step_seconds / cached.step_seconds, 2),
        "epoch_steps": epoch,
        "cached_epoch_seconds": round(cached.step_seconds * epoch, 1),
        "online_epoch_seconds": round(online.step_seconds * epoch, 1),
        "cached_waiting": round(cached.waiting, 3),
        "largest_difference_of_losses": apart,
        "machine": describe_machine(fabric.device),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--teacher", required=True, metavar="NAME[=WEIGHTS]")
    parser.add_argument("--encoder", default="point4d")
    parser.add_argument("--size", default="mini")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--points", type=int, default=2048)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=report_file)
    args = parser.parse_args()
    with user_errors():
        settings = RunSettings.for_cache(open_cache(args.store).manifest).changed(
            {
                "encoder": EncoderSettings(name=args.encoder, size=args.size).model_dump(),
                "clips": ClipSettings(num_frames=args.frames, num_points=args.points, stride=args.stride).model_dump(),
                "training.batch_size": args.batch,
                "training.num_epochs": 10_000,
            }
        )
        found = measure(args.store, args.teacher, settings, args.device, args.steps)
    print(json.dumps(found))
    if args.json:
        args.json.write_text(json.dumps({"rows": [found]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
