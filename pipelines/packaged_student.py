"""The student `bodies` that comes with the package: pre-trained on procedural bodies with the embedded teacher, measured, exported.

    python -m pipelines.packaged_student [--out out/student] [--msr DIR] [--scans DIR] [--seeds 5]

Train: a store of synthetic people and animals, and one dense run of Point4D small; OUT/bodies is what lies in `cross4d_train/students`.
Measure, with encoders that stay frozen: actions of real people (`--msr`, a folder of MSR-Action3D, protocol development), tracks of real
scans (`--scans`, as `python -m pipelines.scans` takes them), parts of synthetic people that it has not seen. The untrained encoder is drawn
once for each seed; the student is one, evaluated with each seed. What is finished is kept; a second call resumes there.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cross4d_cache.build.build import build_store
from cross4d_cache.build.request import BuildRequest, BuildSettings, DatasetRequest, TeacherRequest
from cross4d_cache.console import follow
from cross4d_cache.errors import user_errors
from cross4d_train.checkpoint import CHECKPOINT_FILE
from cross4d_train.evaluation.evaluate import EvaluationRequest, evaluate
from cross4d_train.evaluation.statistics import spread
from cross4d_train.export import ExportRequest, export
from cross4d_train.pretrain import PretrainRequest, pretrain
from cross4d_train.resources import Resources
from cross4d_train.settings import EncoderSettings
from pipelines.benchmarks.machine import describe_machine
from pipelines.bodies import BENCHMARK as UNSEEN
from pipelines.experiment.work import OPTIONS
from pipelines.scans import BENCHMARK as SCANS

BODIES = BuildRequest(
    dataset=DatasetRequest(
        options={
            "num_humans": "20",
            "num_animals": "8",
            "min_frames": "32",
            "max_frames": "32",
            "seed": "7000",
            "heading_range_degrees": "180",
        }
    ),
    settings=BuildSettings(points_per_frame=1024),
)
ENCODER = EncoderSettings(size="small")
TRAINING = {
    "encoder.size": ENCODER.size,
    "clips.num_frames": 12,
    "clips.num_points": 512,
    "clips.stride": 2,
    "training.num_epochs": 20,
    "training.learning_rate": 1e-3,
    "training.side": "all",
}
CLIPS = {f"clips.{name}": TRAINING[f"clips.{name}"] for name in ("num_frames", "num_points", "stride")}
GAPS = (4, 8)


@dataclass(frozen=True)
class Measure:
    """Some numbers of one evaluation on one store: by title, where they stand in its result."""

    evaluation: str
    store: BuildRequest
    options: Mapping[str, Any]
    numbers: Mapping[str, tuple[str | int, ...]]


def measures(msr: Path | None, scans: Path | None) -> dict[str, Measure]:
    """What is measured, by the name of its store."""
    unseen = BuildRequest(dataset=DatasetRequest(name="synthetic", options=UNSEEN.options["small"]), settings=UNSEEN.stores["small"])
    found: dict[str, Measure] = {}
    if scans is not None:
        dataset = DatasetRequest(name="folder", root=scans, options=SCANS.options["small"])
        store = BuildRequest(dataset=dataset, teacher=TeacherRequest(name="none"))
        matchers = {"": "features", ", by coordinates": "coordinates"}
        numbers: dict[str, tuple[str | int, ...]] = {
            f"tracks, {gap * 2} frames apart{how}": ("scores", place, matcher)
            for place, gap in enumerate(GAPS)
            for how, matcher in matchers.items()
        }
        found["scans"] = Measure("correspondence", store, {"gaps": GAPS, "num_windows": 3}, numbers)
    if msr is not None:
        store = BuildRequest(dataset=DatasetRequest(name="msr_action3d", root=msr), teacher=TeacherRequest(name="none"))
        options = {"protocol": "development", "num_windows": 2}
        found["msr"] = Measure("probe", store, options, {"actions, MSR-Action3D": ("standardised", "video_accuracy")})
    found["unseen"] = Measure("segment", unseen, {"num_epochs": 4}, {"parts, mean IoU": ("mean_iou",)})
    return found


def main() -> None:
    """Train, measure, and write a table as JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/student"))
    parser.add_argument("--msr", type=Path, help="folder of MSR-Action3D")
    parser.add_argument("--scans", type=Path, help="folder of tracked scans, one folder a sequence")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    out: Path = arguments.out
    with user_errors(OPTIONS):
        run = train(out)
        notes = Path(__file__).with_suffix(".md")
        follow(export(ExportRequest(run=str(run), out=out / "bodies", license="apache-2.0", notes=notes)), OPTIONS)
        wanted = measures(arguments.msr, arguments.scans)
        table: dict[str, dict[str, list[float]]] = {}
        for name, measure in wanted.items():
            store = out / f"{name}.zarr"
            follow(build_store(measure.store, store), OPTIONS)
            for row, checkpoint in (("bodies", str(run / CHECKPOINT_FILE)), ("untrained", "random")):
                for title, value in values(measure, store, checkpoint, range(arguments.seeds)):
                    table.setdefault(title, {}).setdefault(row, []).append(value)
    record = {"machine": describe_machine(Resources().torch_device), "seeds": arguments.seeds, "table": table}
    (out / "bodies_student.json").write_text(json.dumps(record, indent=1) + "\n")
    print(markdown(table))
    print(f"\nto hand on: {out / 'bodies'}")


def train(out: Path) -> Path:
    """The run of the student."""
    store, run = out / "bodies.zarr", out / "run"
    follow(build_store(BODIES, store), OPTIONS)
    follow(pretrain(PretrainRequest(store=str(store), out=run, options=dict(TRAINING)), Resources()), OPTIONS)
    return run


def values(measure: Measure, store: Path, checkpoint: str, seeds: range) -> Iterator[tuple[str, float]]:
    """The numbers of an encoder, by title, seed after seed."""
    for seed in seeds:
        request = EvaluationRequest(
            evaluation=measure.evaluation,
            checkpoint=checkpoint,
            store=str(store),
            encoder=ENCODER if checkpoint == "random" else None,
            options={**CLIPS, **measure.options, "seed": seed},
        )
        result = follow(evaluate(request, Resources()), OPTIONS, quiet=True).model_dump(mode="json")
        for title, path in measure.numbers.items():
            found: Any = result
            for step in path:
                found = found[step]
            yield title, float(found)


def markdown(table: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Means with 95 % intervals over seeds."""
    lines = ["| frozen features | untrained | `bodies` |", "|---|---|---|"]
    for title, rows in table.items():
        lines.append(f"| {title} | {_interval(rows['untrained'])} | {_interval(rows['bodies'])} |")
    return "\n".join(lines)


def _interval(found: list[float]) -> str:
    over = spread(found)
    return f"{over.mean:.3f}" + ("" if over.low is None else f" [{over.low:.3f}, {over.high:.3f}]")


if __name__ == "__main__":
    main()
