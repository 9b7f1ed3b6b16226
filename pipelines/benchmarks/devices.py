"""Whether several devices of a training give the losses of one, objective by objective, and how fast they are.

    python -m pipelines.benchmarks.devices --devices 2 [--objectives dense global ...] [--steps 50] [--json FILE]
    python -m pipelines.benchmarks.devices --device cuda --devices 4 --size paper --frames 24 --points 2048 --batch 64 --json FILE

Each objective is trained on one device and on several, which share each batch, in processes of their own, on clips of a synthetic store.
A row has the largest difference of a loss, as a share of it, of the first step and of all, and both rates of clips.
"""

import argparse
import json
import statistics
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from cross4d_cache.errors import user_errors
from cross4d_train.clips import ClipSettings
from cross4d_train.cluster import launch
from cross4d_train.loop import Pretraining, make_fabric
from cross4d_train.objectives import OBJECTIVES
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.settings import EncoderSettings, RunSettings, TrainingSettings
from pipelines.benchmarks.child import in_a_process
from pipelines.benchmarks.machine import describe_machine
from pipelines.benchmarks.step import make_store
from pipelines.benchmarks.training_arguments import NAMES, make_parser

MODULE = "pipelines.benchmarks.devices"
WARM_UP = 2
"""Steps that are not timed: memory is touched for the first time."""


def train(store: str, objective: str, num_devices: int, request: dict[str, Any]) -> dict[str, Any] | None:
    """What one process does: some steps; their losses and the median of their clips a second. Of several processes the first one tells."""
    settings = RunSettings(
        encoder=EncoderSettings(name=request["encoder"], size=request["size"]),
        objective=ObjectiveSettings(name=objective).as_new(),
        clips=ClipSettings(num_frames=request["frames"], num_points=request["points"], stride=1),
        training=TrainingSettings(num_epochs=10_000, batch_size=request["batch"], clips_per_sequence=4, precision=request["precision"]),
    )
    fabric = make_fabric(request["device"], num_devices, request["precision"])
    launch(fabric)
    training = Pretraining(store, settings, fabric, num_workers=request["workers"])
    records = list(islice(training.steps(), request["steps"]))
    rate = statistics.median(record.clips_per_second for record in records[WARM_UP:])
    return {"losses": [record.loss for record in records], "clips_per_second": rate} if fabric.is_global_zero else None


def row(objective: str, one: dict[str, Any], several: dict[str, Any]) -> dict[str, Any]:
    """What two runs say of an objective."""
    apart = [abs(there - here) / abs(here) for here, there in zip(one["losses"], several["losses"], strict=True)]
    return {
        "objective": objective,
        "steps": len(apart),
        "first_difference": apart[0],
        "largest_difference": max(apart),
        "first_loss": one["losses"][0],
        "last_loss": one["losses"][-1],
        "clips_per_second": one["clips_per_second"],
        "clips_per_second_together": several["clips_per_second"],
    }


def describe(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    return "\n".join(
        f"{found['objective']}: loss {found['first_loss']:.4g} -> {found['last_loss']:.4g} in {found['steps']} steps; several differ by "
        f"{found['first_difference']:.1e} at first, by {found['largest_difference']:.1e} at most; "
        f"{found['clips_per_second']:.4g} clips/s, together {found['clips_per_second_together']:.4g}"
        for found in rows
    )


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows; each is written as soon as it is there."""
    rows: list[dict[str, Any]] = []
    request = {name: getattr(arguments, name) for name in (*NAMES, "encoder", "precision")}
    about = {"machine": describe_machine(make_fabric(arguments.device).device), "devices": arguments.devices, "request": request}
    with tempfile.TemporaryDirectory() as scratch:
        store = make_store(Path(scratch) / "store.zarr")
        for objective in arguments.objectives:
            one, several = (in_a_process(MODULE, str(store), objective, count, request) for count in (1, arguments.devices))
            rows.append(row(objective, one, several))
            if arguments.json:
                arguments.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
            print(describe(rows[-1:]), file=sys.stderr, flush=True)
    return rows


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__, size="mini", batch=15, frames=8, points=256, steps=50)
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES.built_in))
    parser.add_argument("--devices", type=int, default=2, help="how many share a batch")
    parser.add_argument("--encoder", default="point4d")
    parser.add_argument("--precision", default="float32", help="float32 or bfloat16")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = parse()
    with user_errors():
        if not arguments.child:
            print(describe(measure(arguments)))
        elif (told := train(*json.loads(arguments.child))) is not None:
            print(json.dumps(told))


if __name__ == "__main__":
    main()
