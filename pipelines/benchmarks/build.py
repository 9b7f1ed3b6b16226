"""How fast stage one is beside its teacher alone, where its time goes, how much memory it takes, and how it compares with a plain script.

    python -m pipelines.benchmarks.build [--data MSR_FOLDER] [--models dinov2-s:126 ...] [--peer] [--memory] [--json FILE]
    python -m pipelines.benchmarks.build --device cuda --data MSR_FOLDER --peer --memory --json docs/benchmarks/build_h200.json

Every model is measured on real frames of MSR-Action3D, if their folder is given, and on synthetic ones, which are generated while the
build reads them. Weights are random: speed does not depend on them. The teacher alone and whole builds take turns, on the same
batches; a build is compared with the faster of two ways to run the teacher alone, plainly and in the two lanes in which builds run it.

Bars: on a CPU, stage one takes DINOv2-S at 126 px at 0.95 of the speed of the teacher alone; on an H200, DINOv2-L at 126 px and V-JEPA 2-L
at 256 px (bfloat16) at 0.90, and V-JEPA 2-L reaches 45 % of the measured bfloat16 rate of matrix products. The mean cosine of bfloat16
features with float32 ones is 0.999. The peak memory of a build of 20,000 frames is at most a tenth above that of one of 1,000. Bars of
speed are judged on real frames.
"""

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from cross4d_cache.build.engines.local import Build
from cross4d_cache.build.plan import plan_build
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.datasets import open_dataset
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.errors import user_errors
from cross4d_cache.rendering.device import choose_device
from cross4d_cache.teachers import load_teacher
from cross4d_cache.teachers.teacher import Teacher
from pipelines.benchmarks.child import in_a_process
from pipelines.benchmarks.machine import describe_machine, peak_memory
from pipelines.benchmarks.throughput import compare_with_peer, measure, sequences_for
from pipelines.report_file import report_file

MODULE = "pipelines.benchmarks.build"
MODELS = {"cpu": ["dinov2-s:126"], "cuda": ["dinov2-s:126", "dinov2-s:224", "dinov2-l:126", "vjepa2-l:256"]}
FRAMES = {"cpu": 2_000, "cuda": 16_000}
BATCH = {"cpu": 32, "cuda": 256}
"""What `cross4d-cache build` takes by default."""
WITHOUT_RANDOM_WEIGHTS = ("tiny", "position")

RATIO_BARS = [("cpu", "dinov2-s", 126, 0.95), ("cuda", "dinov2-l", 126, 0.90), ("cuda", "vjepa2-l", 256, 0.90)]
MATMUL_BAR = ("cuda", "vjepa2-l", 256, 0.45)
MOST_DRIFT = 1.2
"""Speed is not judged on a machine that was busier than this with other things; see `throughput`."""
COSINE_BAR = 0.999
MEMORY_BAR = 1.1
MEMORY_FRAMES = (1_000, 20_000)
SEQUENCE_FRAMES = 32
SEQUENCES_PER_REPEAT = 240
"""Of the synthetic dataset, whose sequences are made equally long here, so that a sequence weighs the same in every build."""

COLUMNS = {
    "model": "model",
    "image_size": "px",
    "dataset": "dataset",
    "frames": "frames",
    "teacher_frames_per_second": "teacher/s",
    "build_frames_per_second": "build/s",
    "ratio": "ratio",
    "frames_ratio": "of frames",
    "matmul_share": "of matmul",
    "host_megabytes_before": "MiB before",
    "host_megabytes_peak": "peak",
    "device_megabytes_peak": "on device",
    "store_bytes": "store bytes",
}


def load(model: str, device: torch.device) -> Teacher:
    """A teacher from `NAME` or `NAME:PIXELS`, with untrained weights if it has published ones."""
    name, _, size = model.partition(":")
    weights = None if name in WITHOUT_RANDOM_WEIGHTS else "random"
    return load_teacher(name, weights, image_size=int(size) if size else None, device=device)


def measure_row(dataset: Dataset, teacher: Teacher, arguments: argparse.Namespace) -> dict[str, Any]:
    """One teacher on one dataset."""
    limit = sequences_for(dataset, arguments.frames or FRAMES[teacher.device.type])
    settings = BuildSettings(batch_frames=arguments.batch or BATCH[teacher.device.type], limit=limit)
    row = measure(dataset, teacher, settings, repeats=arguments.repeats)
    return {**row, "peer": compare_with_peer(dataset, teacher, settings) if arguments.peer else None}


def measure_memory(model: str, device: torch.device, num_frames: int) -> dict[str, Any]:
    """Peak memory of a build of so many synthetic frames, in a process of its own."""
    return in_a_process(MODULE, model, str(device), num_frames)


def build_for_memory(model: str, device: str, num_frames: int) -> dict[str, Any]:
    """What that process does: build, and say the most that it ever held."""
    teacher, limit = load(model, torch.device(device)), math.ceil(num_frames / SEQUENCE_FRAMES)
    options = {"min_frames": SEQUENCE_FRAMES, "max_frames": SEQUENCE_FRAMES, "repeats": math.ceil(limit / SEQUENCES_PER_REPEAT)}
    dataset = open_dataset("synthetic", options={name: str(value) for name, value in options.items()})
    plan = plan_build(dataset, teacher, BuildSettings(batch_frames=BATCH[teacher.device.type], limit=limit))
    before = peak_memory()
    with tempfile.TemporaryDirectory() as scratch:
        run = Build(dataset, teacher, plan, Path(scratch) / "store.zarr")
        for _ in run.run():
            pass
    frames, seconds = run.progress.frames_built, run.progress.wall_seconds
    return {"model": model, "frames": frames, "megabytes_before": round(before), "megabytes_peak": round(peak_memory()), "seconds": seconds}


def judge(rows: list[dict[str, Any]], memory: list[dict[str, Any]], device: str) -> list[dict[str, Any]]:
    """Every bar: what was measured (None if nothing was), and whether it is met, missed or open."""

    def found(bar: tuple[str, str, int, float], key: str) -> float | None:
        where, model, size, _ = bar
        chosen = [row for row in rows if (row["model"], row["image_size"], row["dataset"]) == (model, size, "msr_action3d")]
        return min((row[key] for row in chosen if where == device and row["drift"] <= MOST_DRIFT), default=None)

    bars = [(f"{bar[1]} at {bar[2]} px on {bar[0]}: ratio", found(bar, "ratio"), bar[3]) for bar in RATIO_BARS]
    name = f"{MATMUL_BAR[1]} at {MATMUL_BAR[2]} px on {MATMUL_BAR[0]}: share of the matmul rate"
    bars.append((name, found(MATMUL_BAR, "matmul_share"), MATMUL_BAR[3]))
    cosines = [row["bfloat16_cosine"]["mean"] for row in rows if row["model"] != "position"]  # which computes nothing
    bars.append(("mean cosine of bfloat16 features", min(cosines, default=None), COSINE_BAR))
    judged = [
        {"bar": f"{name} >= {least}", "value": value, "state": _state(value, value is not None and value >= least)}
        for name, value, least in bars
    ]
    peaks = {row["frames"]: row["megabytes_peak"] for row in memory}
    few, many = ([peaks[count] for count in peaks if least <= count < least + SEQUENCE_FRAMES] for least in MEMORY_FRAMES)
    growth = many[0] / few[0] if few and many else None
    name = f"peak memory at {MEMORY_FRAMES[1]:,} frames over that at {MEMORY_FRAMES[0]:,} <= {MEMORY_BAR}"
    return [*judged, {"bar": name, "value": growth, "state": _state(growth, growth is not None and growth <= MEMORY_BAR)}]


def _state(value: float | None, met: bool) -> str:
    return "open" if value is None else "met" if met else "missed"


def describe(report: dict[str, Any]) -> str:
    """The rows as an aligned table, below it what else was found, and the bars."""
    rows = report["rows"]
    cells = [list(COLUMNS.values()), *([_shown(row[key]) for key in COLUMNS] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    for row in rows:
        stages = ", ".join(f"{stage} {share:.0%}" for stage, share in row["stages"].items())
        rates = f"{row['teacher_teraflops_per_second']:.3g} of {row['matmul_teraflops_per_second']:.3g} TFLOP/s"
        ways = f"{row['teacher_plain_frames_per_second']:.1f} frames/s, {row['teacher_lanes_frames_per_second']:.1f} in two lanes"
        cosine, peer = row["bfloat16_cosine"], row["peer"]
        lines += [
            f"{row['model']} at {row['image_size']} px on {row['dataset']}",
            f"    ratios {', '.join(f'{ratio:.3f}' for ratio in row['ratios'])}; drift {row['drift']:.2f}; teacher alone {rates}; {ways}",
            f"    busy, of the wall clock: {stages}",
            f"    bfloat16 cosine {cosine['mean']:.5f}, at least {cosine['minimum']:.5f}",
        ]
        if peer:
            time = f"{peer['peer_seconds']:.1f} s, stage one {peer['seconds']:.1f} s ({peer['speedup']:.2f} times as fast)"
            size = f"{peer['peer_bytes']:,} bytes, stage one {peer['bytes']:,} ({peer['bytes_saved']:.1f} times fewer)"
            lines.append(f"    plain script, {peer['frames']} frames: {time}; {size}")
    for row in report["memory"]:
        lines.append(
            f"peak memory, {row['model']}, {row['frames']:,} frames: {row['megabytes_peak']:,} MiB ({row['megabytes_before']:,} before)"
        )
    lines += [f"{bar['state']:6}  {bar['bar']}: {_shown(bar['value'])}" for bar in report["bars"]]
    return "\n".join(lines)


def _shown(value: str | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.{1 if value >= 10 else 4}f}" if isinstance(value, float) else str(value)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the .bin files of MSR-Action3D")
    parser.add_argument("--datasets", nargs="+", choices=["msr_action3d", "synthetic"], help="default: both, the first if --data is given")
    parser.add_argument("--models", nargs="*", metavar="NAME[:PIXELS]", help=f"default: {' '.join(MODELS['cpu'])}, on CUDA four")
    parser.add_argument("--frames", type=_count, help="at least so many, in whole sequences; default: 600, on CUDA 8000")
    parser.add_argument("--batch", type=_count, help="frames in a batch; default: that of `cross4d-cache build`")
    parser.add_argument("--repeats", type=_count, default=3, help="builds, each between two blocks of the teacher alone")
    parser.add_argument("--peer", action="store_true", help="compare with pipelines/benchmarks/peer_build.py")
    parser.add_argument(
        "--memory", type=_count, nargs="*", metavar="FRAMES", help="builds whose peak memory to compare; default: 1000 20000"
    )
    parser.add_argument("--memory-model", default="tiny", metavar="NAME[:PIXELS]", help="teacher of these")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--json", type=report_file, help="write everything to this file, after every step what there is")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def _count(word: str) -> int:
    if not word.isdecimal() or int(word) == 0:
        raise argparse.ArgumentTypeError(f"{word!r} is not a count")
    return int(word)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure what was asked for; the report."""
    device = choose_device(arguments.device)
    rows: list[dict[str, Any]] = []
    memory: list[dict[str, Any]] = []

    def report() -> dict[str, Any]:
        found = {"machine": describe_machine(device), "rows": rows, "memory": memory, "bars": judge(rows, memory, device.type)}
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=1) + "\n")
        return found

    names = arguments.datasets or (["msr_action3d"] if arguments.data else []) + ["synthetic"]
    datasets = [open_dataset(name, arguments.data if name == "msr_action3d" else None) for name in names]
    report()  # a file that cannot be written is better known now
    for model in MODELS[device.type] if arguments.models is None else arguments.models:
        teacher = load(model, device)
        for dataset in datasets:
            rows.append(measure_row(dataset, teacher, arguments))
            print(describe(report()), file=sys.stderr, flush=True)
    for num_frames in () if arguments.memory is None else arguments.memory or MEMORY_FRAMES:
        memory.append(measure_memory(arguments.memory_model, device, num_frames))
    return report()


def main() -> None:
    """Measure and print."""
    arguments = parse()
    with user_errors():
        print(json.dumps(build_for_memory(*json.loads(arguments.child))) if arguments.child else describe(run(arguments)))


if __name__ == "__main__":
    main()
