"""How long a recipe will take, from a few steps and frames measured on this machine."""

import os
import shutil
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import mean

import torch

from cross4d_cache.build.build import build_store
from cross4d_cache.types import SequenceInfo
from cross4d_cache.work import finish
from cross4d_train.loop import Pretraining, make_fabric
from pipelines.experiment.work import EvaluationRun, Store, Student

PILOT_SEQUENCES = 4
STEPS = 3
CLIPS_OF_EVALUATION = {"probe": 1.0, "knn": 1.0, "robustness": 4.0, "segment": 1.0, "segment-actions": 1.0, "correspondence": 1.0}
"""How often an evaluation encodes the clips of all videos; `segment` and `finetune` do so once an epoch, with a backward pass."""


def pilot_store(store: Store, folder: Path) -> tuple[Path, float]:
    """A store of the first sequences of a dataset, and the seconds a sequence takes to build."""
    path = folder / "pilot.zarr"
    shutil.rmtree(path, ignore_errors=True)
    started = time.perf_counter()
    settings = store.request.settings.model_copy(update={"limit": PILOT_SEQUENCES})
    finish(build_store(store.request.model_copy(update={"settings": settings}), path))
    return path, (time.perf_counter() - started) / PILOT_SEQUENCES


def step_seconds(student: Student, store: Path, device: str) -> float:
    """Seconds of a training step of one thread on a CPU, or on a GPU, where others load the clips; the first step does not count."""
    assert student.settings is not None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    training = student.settings.training.model_copy(update={"side": "all", "clips_per_sequence": 8, "num_epochs": STEPS + 1})
    steps = Pretraining(store, student.settings.model_copy(update={"training": training}), make_fabric(device)).steps()
    try:
        records = list(islice(steps, 1 + STEPS))[1:]
    finally:
        torch.set_num_threads(threads)
        torch.cuda.empty_cache()  # this process lives on beside those that train
    return mean((1 if device == "cpu" else 1 - record.waiting) * training.batch_size / record.clips_per_second for record in records)


def estimate(
    main: Store,
    stores: Sequence[Store],
    students: Sequence[Student],
    runs: Sequence[EvaluationRun],
    *,
    sequences: Sequence[SequenceInfo],
    folder: Path,
    device: str,
    jobs: int,
) -> float:
    """Seconds for the work that is not done, by a pilot of the main store: a rough figure, half as long or twice as long is possible.

    A forward pass is taken as a third of a training step; two evaluations of one kind cost the same. Jobs at a time share
    the cores of a CPU; on a GPU, whose pauses they fill, they are taken to save nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lanes, num_sequences = min(jobs, os.cpu_count() or 1) if device == "cpu" else 1, len(sequences)
    pilot, per_sequence = pilot_store(main, folder)
    seconds = per_sequence * num_sequences * len(stores)
    clip_seconds: dict[str, float] = {}
    for student in students:
        assert student.settings is not None
        settings = student.settings
        kind = f"{settings.encoder.name} {settings.encoder.size} {settings.objective.kind}"
        if kind not in clip_seconds:
            clip_seconds[kind] = step_seconds(student, pilot, device) / settings.training.batch_size
        seen = sum(info.is_on(settings.training.side, settings.training.protocol) for info in sequences)
        clips = seen * settings.training.clips_per_sequence * settings.training.num_epochs
        seconds += clips * clip_seconds[kind] / lanes
    typical = max(clip_seconds.values(), default=0.05)
    for item in runs:
        windows = item.options.get("num_windows", 1)
        passes = CLIPS_OF_EVALUATION.get(item.kind, 1.0)
        clips = num_sequences * windows * passes / 3
        if item.kind in ("segment", "finetune"):
            clips = num_sequences * item.options["num_epochs"] * sum(item.options.get("fractions", (1.0,)))
        seconds += clips * typical / lanes
    shutil.rmtree(pilot, ignore_errors=True)
    return seconds
