"""What stage two and sharing cost on a store as large as NTU RGB+D's: its numbers of sequences and frames, with few points and channels.

    python -m pipelines.benchmarks.rehearsal FOLDER [--sequences 56880] [--shares 8] [--json FILE]

Generated shares are written as a build's jobs would leave stores of subjects, then merged; each step after that is a process of its own,
so that its memory is. A frame has 8 points and 2 features of 8 channels: what is measured is what grows with sequences, frames and
parts; what grows with points and channels is not. FOLDER gets some 3 GB, and is emptied at the end.
"""

import argparse
import json
import resource
import shutil
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cross4d_cache.build.build import build_store
from cross4d_cache.build.plan import cut_parts
from cross4d_cache.build.request import BuildRequest, BuildSettings, DatasetRequest, TeacherRequest
from cross4d_cache.errors import user_errors
from cross4d_cache.report.store import summary
from cross4d_cache.sharing.merge import merge
from cross4d_cache.sharing.parts import planned
from cross4d_cache.store import Cache, CacheWriter, PartContents, open_cache, verify
from cross4d_cache.types import SequenceInfo
from cross4d_cache.work import finish
from cross4d_train.clips import EpochPlan, select_sequences
from cross4d_train.data import BatchLoader
from cross4d_train.dataset import ClipDataset
from cross4d_train.settings import RunSettings
from pipelines.benchmarks.child import in_a_process
from pipelines.benchmarks.machine import describe_machine
from pipelines.report_file import report_file

MODULE = "pipelines.benchmarks.rehearsal"
POINTS, ROWS, CHANNELS = 8, 2, 8
STEPS = ("open", "sequences", "info", "first batch", "100 batches", "order of an epoch", "verify")


def infos(count: int) -> list[SequenceInfo]:
    """Sequences of 64 to 104 frames, 84 in the mean as NTU's, of 40 subjects, 60 actions and three cameras."""
    return [
        SequenceInfo(
            id=f"S{number // 3320:03}C{number % 3:03}P{number // 3 % 40:03}N{number:06}",
            num_frames=64 + number * 7 % 41,
            action=number % 60,
            subject=number // 3 % 40,
            camera=number % 3,
            splits={"cross-subject": "train" if number // 3 % 2 else "test"},
        )
        for number in range(count)
    ]


def contents(part: tuple[SequenceInfo, ...], rng: np.random.Generator) -> PartContents:
    """Random points and features."""
    frames = sum(info.num_frames for info in part)
    return PartContents(
        sequences=part,
        point_offsets=POINTS * np.arange(frames + 1, dtype=np.int64),
        points=rng.integers(2**16, size=(POINTS * frames, 3), dtype=np.uint16),
        boxes=np.broadcast_to(np.array([[-1.0, -1.0, 1.0], [1.0, 1.0, 3.0]]), (len(part), 2, 3)).copy(),
        patch_slot=rng.integers(ROWS, size=(POINTS * frames, 1), dtype=np.uint16),
        frame_tubelet=np.arange(frames, dtype=np.int64),
        feature_offsets=ROWS * np.arange(frames + 1, dtype=np.int64),
        features=rng.normal(size=(ROWS * frames, CHANNELS)).astype(np.float16),
        feature_patch=np.tile(np.arange(ROWS, dtype=np.uint16), frames),
        frame_features=rng.normal(size=(frames, CHANNELS)).astype(np.float16),
        intrinsics=np.broadcast_to(np.eye(3), (len(part), 1, 3, 3)).copy(),
        world_to_camera=np.broadcast_to(np.eye(4), (len(part), 1, 4, 4)).copy(),
    )


def write_share(base: Cache, sequences: list[SequenceInfo], store: Path, seed: int) -> int:
    """A finished store of some sequences; the number of its parts."""
    cut, rng = list(cut_parts(sequences, BuildSettings().frames_per_part)), np.random.default_rng(seed)
    manifest = planned(base.manifest, cut, dataset_fingerprint=base.manifest.dataset.fingerprint, batch_frames=32)
    writer = CacheWriter(store, manifest, base.projection())
    for number, part in enumerate(cut):
        writer.commit(number, contents(part, rng))
    writer.finish()
    return len(cut)


def make_base(folder: Path) -> Cache:
    """A real store, whose manifest and projection the shares take over."""
    settings = BuildSettings(points_per_frame=POINTS, projection=f"random:{CHANNELS}", limit=1)
    finish(
        build_store(
            BuildRequest(dataset=DatasetRequest(), teacher=TeacherRequest(name="position"), settings=settings), folder, device="cpu"
        )
    )
    return open_cache(folder)


def do(step: str, store: str) -> None:
    """One step on the merged store."""
    cache = open_cache(store)
    if step == "sequences":
        assert len(cache.sequences) == cache.manifest.plan.num_sequences
    elif step == "info":
        summary(cache)
    elif step == "verify":
        assert not [problem for check in verify(cache) for problem in check.problems]
    elif step in ("first batch", "100 batches"):
        plan = make_plan(cache)
        count = min(len(plan), 1 if step == "first batch" else 100)
        assert len(list(BatchLoader(ClipDataset(store, plan.clips)).load(islice(plan, count)))) == count
    elif step == "order of an epoch":
        plan = make_plan(cache)
        assert sum(map(len, islice(plan, plan.steps_per_epoch))) == len(plan.chosen)


def make_plan(cache: Cache) -> EpochPlan:
    """What a training would read: batches of 16 clips of 24 frames."""
    clips = RunSettings.for_cache(cache.manifest).clips.model_copy(update={"num_points": POINTS, "num_frames": 24})
    chosen = select_sequences(cache.sequences, cache.manifest.dataset.protocols, protocol=None, side="train")
    return EpochPlan(clips=clips, sequences=cache.sequences, chosen=chosen, clips_per_sequence=1, batch_size=16, seed=0, num_epochs=1)


def timed(step: str, *places: str) -> dict[str, Any]:
    """What one process does: a step, with its seconds and the most memory that the process had."""
    begin = time.perf_counter()
    if step == "merge":
        finish(merge([Path(place) for place in places[:-1]], Path(places[-1])))
    elif step != "imports alone":
        do(step, places[0])
    seconds = time.perf_counter() - begin
    return {"step": step, "seconds": round(seconds, 2), "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


def measure(folder: Path, num_sequences: int, num_shares: int) -> dict[str, Any]:
    """All steps in order."""
    base, sequences = make_base(folder / "base.zarr"), infos(num_sequences)
    length = -(-num_sequences // num_shares)
    shares, begin = [folder / f"share{number}.zarr" for number in range(num_shares)], time.perf_counter()
    written = sum(write_share(base, sequences[number * length :][:length], share, seed=number) for number, share in enumerate(shares))
    rows = [{"step": f"write {num_shares} shares", "seconds": round(time.perf_counter() - begin, 2), "megabytes": None}]
    whole = str(folder / "whole.zarr")
    rows += [in_a_process(MODULE, "imports alone"), in_a_process(MODULE, "merge", *map(str, shares), whole)]
    rows += [in_a_process(MODULE, step, whole) for step in STEPS]
    manifest = open_cache(whole).manifest
    assert manifest.plan.num_sequences == num_sequences
    return {
        "sequences": num_sequences,
        "frames": manifest.plan.num_frames,
        "parts": written,
        "bytes": sum(part.bytes for part in manifest.parts),
        "rows": rows,
    }


def describe(found: dict[str, Any]) -> str:
    """The rows as text."""
    head = "{sequences:,} sequences, {frames:,} frames, {parts:,} parts, {bytes:,} bytes".format(**found)
    lines = [f"{row['step']:<20} {row['seconds']:8.2f} s {row['megabytes'] or '':>6} MB" for row in found["rows"]]
    return "\n".join([head, *lines])


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where stores are written; it must not be there")
    parser.add_argument("--sequences", type=int, default=56_880)
    parser.add_argument("--shares", type=int, default=8)
    parser.add_argument("--json", type=report_file, help="write everything to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with user_errors():
        if arguments.child:
            print(json.dumps(timed(*json.loads(arguments.child))))
            return
        if arguments.folder is None:
            parser.error("name a folder that is not there yet")
        arguments.folder.mkdir(parents=True)
        try:
            found = measure(arguments.folder, arguments.sequences, arguments.shares)
        finally:
            shutil.rmtree(arguments.folder)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": describe_machine(torch.device("cpu")), **found}, indent=1) + "\n")
    print(describe(found))


if __name__ == "__main__":
    main()
