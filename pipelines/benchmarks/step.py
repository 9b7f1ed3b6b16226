"""How fast a training step is beside the arithmetic it takes, where its time goes, and how much memory it needs.

    python -m pipelines.benchmarks.step [--encoders point4d p4transformer] [--batch 16 32] [--json FILE]
    python -m pipelines.benchmarks.step --device cuda --workers 8 --steps 50 --json docs/benchmarks/step_h200.json

Dense distillation of encoders of paper size on clips of 24 x 2,048 points, streamed from a synthetic store by the loop that
`cross4d-train pretrain` runs: forward, backward, AdamW step, and the wait for the loader. It keeps decoded sequences in memory up to a
gibibyte, which this store does not fill; with --streamed every clip is read from the store. Every row has a process of its own.

Operations are counted in a forward pass and taken three times. The published figure of Point4D leaves out the products of attention, so
both are shown.

Bars: the loader takes less than 2 % of a step; on a CPU a step takes at most twice the time that its operations would take at the measured
rate of float32 matrix products; on an H200 (bfloat16) point4d trains on 300 clips a second and p4transformer on 60. No tensor of a step
is as large as one of frame x point x channel would be. And a GPU is given at most 500 operations by a step of point4d, its point sampling
counted as one: they are counted on any device, with the chunks, the precision and the optimiser that a GPU gets.
"""

import argparse
import json
import statistics
import sys
import tempfile
from contextlib import ExitStack, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from cross4d_cache.build.request import BuildRequest, BuildSettings, DatasetRequest
from cross4d_cache.errors import user_errors
from cross4d_train import dataset
from cross4d_train.clips import ClipRequest, ClipSettings
from cross4d_train.data import Batch, BatchLoader
from cross4d_train.encoders import grouping, p4transformer, point4d, pstnet
from cross4d_train.encoders.arithmetic import count_cost
from cross4d_train.loop import Pretraining, make_fabric
from cross4d_train.settings import EncoderSettings, RunSettings, TrainingSettings
from pipelines.benchmarks.child import in_a_process
from pipelines.benchmarks.machine import describe_machine, matmul_rate, peak_memory
from pipelines.experiment.work import Store, build
from pipelines.instruments import Largest, Launches, Stopwatch
from pipelines.report_file import report_file

MODULE = "pipelines.benchmarks.step"
SEARCHES = ("farthest_points", "ball_neighbours", "ball_query")
ENCODERS = (point4d, p4transformer, pstnet)
CHUNKS = {"MOST_DISTANCES": grouping, "MOST_MEMBERS": point4d, "MOST_PRODUCTS": p4transformer}
"""Where it stands how much is computed at a time on a kind of device."""

SEQUENCES = 16
CHANNELS = 384
"""Of the tensor of frame x point x channel that a step is not to need: the paper's targets."""

WAIT_BAR = 0.02
CPU_BAR = 2.0
CLIP_BARS = {"point4d": 300.0, "p4transformer": 60.0}
CLIPS = "24 x 2048"
LAUNCH_BAR = 500
TENSOR_BAR = 0.5
"""What a tensor of frame x point x channel would be in half precision."""

MOST_DRIFT = 1.2
"""Of the rate of matrix products, before and after: a machine whose rate varies by more is busy with other things, and not judged."""


def make_store(path: Path) -> Path:
    """A store of synthetic sequences of more frames and points than a clip takes."""
    dataset = DatasetRequest(options={"min_frames": "40", "max_frames": "40"})
    build(Store(path=path, request=BuildRequest(dataset=dataset, settings=BuildSettings(limit=SEQUENCES))))
    return path


def measure(store: Path, name: str, request: dict[str, Any]) -> dict[str, Any]:
    """One row."""
    if request["streamed"]:
        dataset.MEMORY = 0  # this process is here for this row only; workers are told by it
    fabric = make_fabric(request["device"])
    settings = RunSettings(
        encoder=EncoderSettings(name=name, size=request["size"]),
        clips=ClipSettings(num_frames=request["frames"], num_points=request["points"], stride=1),
        training=TrainingSettings(num_epochs=10_000, batch_size=request["batch"], clips_per_sequence=4),
    )
    training = Pretraining(store, settings, fabric, num_workers=request["workers"])
    before = peak_memory()
    dtype = torch.bfloat16 if fabric.device.type == "cuda" else torch.float32
    rates = [matmul_rate(fabric.device, dtype)]
    warm_up = 2  # the first steps are slower: memory is touched for the first time
    if request["workers"] == 0:
        for index in training.plan.chosen:  # so that every sequence is in memory
            training.dataset[ClipRequest(sequence=index, start=0, key=(0,))]
    else:  # workers read for themselves, and two batches of each are waiting before the first step
        warm_up += max(training.plan.steps_per_epoch, 2 * request["workers"])
    records = list(islice(training.steps(), warm_up + request["steps"]))[warm_up:]
    peak = peak_memory()
    on_device = torch.cuda.max_memory_allocated(fabric.device) if fabric.device.type == "cuda" else None
    durations = [request["batch"] / record.clips_per_second for record in records]
    seconds = statistics.mean(durations)  # batches of workers come in bursts, which a median would not see
    rates.append(matmul_rate(fabric.device, dtype))
    rate = statistics.mean(rates)
    cost = count_cost(training.encoder, num_frames=request["frames"], num_points=request["points"])
    operations = 3 * request["batch"] * (cost.linear_flops + cost.product_flops)
    split, largest = take_apart(training)
    return {
        "encoder": name,
        "size": request["size"],
        "batch": request["batch"],
        "clips": f"{request['frames']} x {request['points']}",
        "workers": request["workers"],
        "streamed": request["streamed"],
        "steps": len(records),
        "step_seconds": seconds,
        "clips_per_second": request["batch"] / seconds,
        "waiting": sum(record.waiting * duration for record, duration in zip(records, durations, strict=True)) / sum(durations),
        "split_seconds": split,
        "gigaflops": operations / 1e9,
        "gigaflops_without_attention_products": 3 * request["batch"] * cost.linear_flops / 1e9,
        "gigaflops_per_second": operations / seconds / 1e9,
        "matmul_gigaflops_per_second": rate / 1e9,
        "drift": max(rates) / min(rates),
        "over_arithmetic": seconds * rate / operations,
        "over_arithmetic_without_attention_products": seconds * rate / (3 * request["batch"] * cost.linear_flops),
        "host_megabytes_before": round(before),
        "host_megabytes_peak": round(peak),
        "device_megabytes_peak": None if on_device is None else round(on_device / 2**20),
        "launches": count_launches(training),
        "largest_tensor_megabytes": largest / 2**20,
        "frame_point_channel_megabytes": request["batch"] * request["frames"] * request["points"] * CHANNELS * 4 / 2**20,
    }


def take_apart(training: Pretraining) -> tuple[dict[str, float], int]:
    """Seconds of the sections of one more step, and the bytes of the largest tensor of another."""
    encoder, objective, device = training.encoder, training.objective, training.fabric.device
    batch = _first_batch(training)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *objective.parameters()], lr=1e-4)
    watch = Stopwatch(device)
    with ExitStack() as stack:
        for module in ENCODERS:
            for name in SEARCHES:
                if hasattr(module, name):
                    stack.enter_context(patch.object(module, name, watch.around("grouping", getattr(module, name))))
        blocks = getattr(encoder, "blocks", None)
        if blocks is not None:
            stack.enter_context(patch.object(blocks, "forward", watch.around("transformer", blocks.forward)))
        stack.enter_context(patch.object(encoder, "forward", watch.around("encoder", encoder.forward)))
        with watch.section("forward"), training.fabric.autocast():
            loss, _ = objective(encoder, batch)
    with watch.section("backward"):
        loss.backward()
    with watch.section("optimiser"):
        optimizer.step()
        optimizer.zero_grad()
    seconds = watch.seconds
    parts = {name: seconds.get(name, 0.0) for name in ("grouping", "transformer")}
    split = {
        **parts,
        "embedding": seconds["encoder"] - sum(parts.values()),
        "head and targets": seconds["forward"] - seconds["encoder"],
        "backward": seconds["backward"],
        "optimiser": seconds["optimiser"],
    }
    largest = Largest()
    with largest:
        with training.fabric.autocast():
            loss, _ = objective(encoder, batch)
        loss.backward()
    return split, largest.num_bytes


def _first_batch(training: Pretraining) -> Batch:
    return next(BatchLoader(training.dataset).load(islice(training.plan, 1))).to(training.fabric.device)


def count_launches(training: Pretraining) -> int:
    """Operations that a step gives to a GPU, counted in one of a single clip: in as many chunks as those of its batch."""
    encoder, objective, device = training.encoder, training.objective, training.fabric.device
    batch_size, launches = training.settings.training.batch_size, Launches()
    batch = next(BatchLoader(training.dataset).load([next(iter(training.plan))[:1]])).to(device)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *objective.parameters()], lr=0.0, weight_decay=0.0, foreach=True)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss, _ = objective(encoder, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    with ExitStack() as stack:
        for name, module in CHUNKS.items():
            chunks = getattr(module, name)
            stack.enter_context(patch.dict(chunks, {device.type: chunks["cuda"] // batch_size}))
        for module in ENCODERS:
            if hasattr(module, "farthest_points"):
                stack.enter_context(patch.object(module, "farthest_points", launches.as_one(module.farthest_points)))
        for counting in (nullcontext(), launches):  # the first step makes the optimiser's state
            with counting:
                step()
    return launches.count


def judge(rows: list[dict[str, Any]], device: str) -> list[dict[str, Any]]:
    """Every bar for every row it is about: met, missed, or open where it was not measured; `device` is `cpu` or the name of a GPU."""
    bars: list[tuple[str, float, bool]] = []
    for row in rows:
        label = f"{row['encoder']}, batch {row['batch']}"
        bars.append((f"{label}: wait for the loader <= {WAIT_BAR:.0%}", row["waiting"], row["waiting"] <= WAIT_BAR))
        share = row["largest_tensor_megabytes"] / row["frame_point_channel_megabytes"]
        bars.append((f"{label}: largest tensor beside frame x point x channel < {TENSOR_BAR:g}", share, share < TENSOR_BAR))
        if (row["encoder"], row["size"]) == ("point4d", "paper"):
            bars.append((f"{label}: operations given to a GPU <= {LAUNCH_BAR}", row["launches"], row["launches"] <= LAUNCH_BAR))
        if device == "cpu" and row["drift"] <= MOST_DRIFT:
            over = row["over_arithmetic"]
            bars.append((f"{label}: time beside that of its operations <= {CPU_BAR:g}", over, over <= CPU_BAR))
    judged: list[dict[str, Any]] = [{"bar": bar, "value": value, "state": "met" if met else "missed"} for bar, value, met in bars]
    for name, least in CLIP_BARS.items():
        paper = [row for row in rows if (row["encoder"], row["size"], row["clips"]) == (name, "paper", CLIPS) and "H200" in device]
        slowest = min((row["clips_per_second"] for row in paper if row["drift"] <= MOST_DRIFT), default=None)
        state = "open" if slowest is None else "met" if slowest >= least else "missed"
        judged.append({"bar": f"{name} on an H200: clips a second >= {least:g}", "value": slowest, "state": state})
    return judged


def describe(report: dict[str, Any]) -> str:
    """The rows and the bars as text."""
    lines = []
    for row in report["rows"]:
        split = ", ".join(f"{name} {seconds:.3g} s" for name, seconds in row["split_seconds"].items())
        memory = f"{row['host_megabytes_peak']:,} MiB ({row['host_megabytes_before']:,} before)"
        if row["device_megabytes_peak"] is not None:
            memory += f", on the device {row['device_megabytes_peak']:,}"
        lines += [
            f"{row['encoder']} {row['size']}, batch {row['batch']} of {row['clips']}: {row['clips_per_second']:.3g} clips/s, "
            f"{row['step_seconds']:.3g} s a step, {row['waiting']:.2%} waiting, drift {row['drift']:.2f}",
            f"    {row['gigaflops_per_second']:.4g} of {row['matmul_gigaflops_per_second']:.4g} GFLOP/s, {row['gigaflops']:,.0f} GFLOPs: "
            f"{row['over_arithmetic']:.2f} times their time ({row['over_arithmetic_without_attention_products']:.2f} without attention)",
            f"    {split}",
            f"    {row['launches']} operations given to a GPU",
            f"    memory {memory}; largest tensor {row['largest_tensor_megabytes']:,.0f} MiB, "
            f"frame x point x channel would be {row['frame_point_channel_megabytes']:,.0f}",
        ]
    lines += [f"{bar['state']:6}  {bar['bar']}: {'-' if bar['value'] is None else format(bar['value'], '.3g')}" for bar in report["bars"]]
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=["point4d", "p4transformer"])
    parser.add_argument("--size", default="paper")
    parser.add_argument("--batch", type=_count, nargs="+", default=[16, 32])
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--points", type=int, default=2048)
    parser.add_argument("--steps", type=_count, default=3, help="steps that are timed, after a warm-up")
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    parser.add_argument("--streamed", action="store_true", help="keep no decoded sequences in memory")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--json", type=report_file, help="write everything to this file, after every row what there is")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def _count(word: str) -> int:
    if not word.isdecimal() or int(word) == 0:
        raise argparse.ArgumentTypeError(f"{word!r} is not a count")
    return int(word)


def measure_all(arguments: argparse.Namespace) -> dict[str, Any]:
    """The report."""
    device = make_fabric(arguments.device).device
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        store = make_store(Path(scratch) / "store.zarr")
        for name in arguments.encoders:
            for batch in arguments.batch:
                request = {key: getattr(arguments, key) for key in ("size", "frames", "points", "steps", "workers", "streamed", "device")}
                rows.append(in_a_process(MODULE, str(store), name, request | {"batch": batch}))
                machine = describe_machine(device)
                report = {"machine": machine, "rows": rows, "bars": judge(rows, machine["device"])}
                if arguments.json:
                    arguments.json.write_text(json.dumps(report, indent=1) + "\n")
                print(describe(report), file=sys.stderr, flush=True)
    return report


def main() -> None:
    """Measure and print."""
    arguments = parse()
    with user_errors():
        if arguments.child:
            store, name, request = json.loads(arguments.child)
            print(json.dumps(measure(Path(store), name, request)))
        else:
            print(describe(measure_all(arguments)))


if __name__ == "__main__":
    main()
