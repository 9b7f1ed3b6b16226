"""MSR-Action3D within the official training subjects: dense distillation against an untrained encoder, several seeds.

    python -m pipelines.msr_action3d --data DIR --weights FOLDER [--out out/msr] [--seeds 3] [--json FILE]

Protocol `development`: subjects 1-3 train (pre-training sees their points, the probe their labels), 4-5 test. Scale `small`, for two
cores: clips of 12 frames (every third) x 512 points, the small Point4D, 16 epochs of 4 clips a sequence. Every step resumes, so the
recipe can be stopped and run again.
"""

import argparse
import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy.stats import ttest_rel

from pipelines.commands import run

CLIPS = ["--frames", "12", "--stride", "3", "--points", "512"]
TRAINING = ["--size", "small", "--epochs", "16", "--clips-per-sequence", "4", "--lr", "1e-3"]
PROBE = ["--protocol", "development", "--windows", "5"]
SCORES = {"raw": "off", "standardised": "on"}


def main() -> None:
    """Build, pre-train, probe, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the .bin files")
    parser.add_argument("--weights", required=True, help="teacher weights: folder or hub id of an image backbone")
    parser.add_argument("--out", type=Path, default=Path("out/msr"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write everything to this file")
    args = parser.parse_args()
    store = args.out / "store.zarr"
    build = run(
        "cross4d-cache",
        "build",
        "--dataset",
        "msr_action3d",
        "--data",
        args.data,
        "--teacher",
        "hf",
        "--weights",
        args.weights,
        "--out",
        store,
    )
    runs = [dense_and_untrained(store, args.out / f"seed{seed}", seed) for seed in range(args.seeds)]
    report = summarise(runs)
    if args.json:
        machine = {"machine": platform.processor() or platform.machine(), "date": datetime.now(UTC).date().isoformat()}
        args.json.write_text(json.dumps({**machine, "build": build, "report": report, "runs": runs}, indent=1) + "\n")
    print(f"store: {build['sequences']} sequences, {build['frames']} frames, {build['bytes'] / 1e6:.1f} MB")
    print(describe(report, runs))


def dense_and_untrained(store: Path, out: Path, seed: int) -> dict[str, Any]:
    """One pre-training run and the probes of its encoder and of the untrained one with the same seed."""
    training = run(
        "cross4d-train",
        "pretrain",
        "--cache",
        store,
        "--out",
        out,
        "--protocol",
        "development",
        "--seed",
        seed,
        *CLIPS,
        *TRAINING,
        "--resume",
    )
    dense = run("cross4d-train", "probe", "--checkpoint", out / "checkpoint.safetensors", "--cache", store, "--seed", seed, *PROBE)
    untrained = run("cross4d-train", "probe", "--checkpoint", "random", "--size", "small", "--cache", store, "--seed", seed, *CLIPS, *PROBE)
    return {"seed": seed, "training": training, "dense": dense, "untrained": untrained}


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, deviation and paired test of video accuracy, by kind of probe."""
    report: dict[str, Any] = {}
    for kind in SCORES:
        scores = {name: [item[name][kind]["video_accuracy"] for item in runs] for name in ("untrained", "dense")}
        report[kind] = {name: {"mean": mean(values), "std": stdev(values) if len(values) > 1 else 0.0} for name, values in scores.items()}
        if len(runs) > 1:
            report[kind]["paired t-test p"] = float(ttest_rel(scores["dense"], scores["untrained"]).pvalue)
    return report


def describe(report: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    """The report as a table."""
    probe = runs[0]["dense"]
    head = probe["settings"]["head"]
    lines = [
        f"train subjects 1-3 ({probe['num_train_videos']} videos), test subjects 4-5 ({probe['num_test_videos']}); {len(runs)} seeds; "
        f"video accuracy of a linear head ({head['optimizer']}, rate {head['learning_rate']:g}, {head['num_epochs']} epochs)",
        f"{'standardisation':16}{'untrained':>16}{'dense':>16}{'p (paired t)':>14}",
    ]
    for kind, row in report.items():
        cells = [f"{row[name]['mean']:.3f} +- {row[name]['std']:.3f}" for name in ("untrained", "dense")]
        lines.append(f"{SCORES[kind]:16}{cells[0]:>16}{cells[1]:>16}{row.get('paired t-test p', float('nan')):14.4f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
