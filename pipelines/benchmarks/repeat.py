"""Whether a training gives the same losses twice, and what `training.deterministic` costs.

    python -m pipelines.benchmarks.repeat [--encoders point4d p4transformer] [--steps 20] [--json FILE]
    python -m pipelines.benchmarks.repeat --device cuda --json docs/benchmarks/repeat_h200.json

Dense distillation of encoders of paper size on clips of 24 x 2,048 points of a synthetic store, as it is and deterministic, each twice in
processes of their own. A row says how many of the first losses both had, and the clips a second of the faster one.
"""

import argparse
import json
import statistics
import sys
import tempfile
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from cross4d_cache.errors import user_errors
from cross4d_train.clips import ClipSettings
from cross4d_train.loop import Pretraining, make_fabric
from cross4d_train.settings import EncoderSettings, RunSettings, TrainingSettings
from pipelines.benchmarks.child import in_a_process
from pipelines.benchmarks.machine import describe_machine
from pipelines.benchmarks.step import make_store
from pipelines.benchmarks.training_arguments import NAMES, make_parser

MODULE = "pipelines.benchmarks.repeat"
WARM_UP = 2
"""Steps that are not timed: memory is touched for the first time."""


def train(store: str, encoder: str, deterministic: bool, request: dict[str, Any]) -> dict[str, Any]:
    """What one process does: some steps; their losses and the median of their clips a second."""
    settings = RunSettings(
        encoder=EncoderSettings(name=encoder, size=request["size"]),
        clips=ClipSettings(num_frames=request["frames"], num_points=request["points"], stride=1),
        training=TrainingSettings(num_epochs=10_000, batch_size=request["batch"], clips_per_sequence=4, deterministic=deterministic),
    )
    training = Pretraining(store, settings, make_fabric(request["device"]), num_workers=request["workers"])
    records = list(islice(training.steps(), WARM_UP + request["steps"]))
    rate = statistics.median(record.clips_per_second for record in records[WARM_UP:])
    return {"losses": [record.loss for record in records], "clips_per_second": rate}


def row(encoder: str, deterministic: bool, twice: list[dict[str, Any]]) -> dict[str, Any]:
    """What two runs say of a setting."""
    pairs = list(zip(*(run["losses"] for run in twice), strict=True))
    return {
        "encoder": encoder,
        "deterministic": deterministic,
        "steps": len(pairs),
        "equal_losses": len(list(takewhile(lambda pair: pair[0] == pair[1], pairs))),
        "clips_per_second": max(run["clips_per_second"] for run in twice),
    }


def describe(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    return "\n".join(
        f"{found['encoder']}, {'deterministic' if found['deterministic'] else 'as it is'}: the first {found['equal_losses']} of "
        f"{found['steps']} losses twice, {found['clips_per_second']:.4g} clips/s"
        for found in rows
    )


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows; each is written as soon as it is there."""
    rows: list[dict[str, Any]] = []
    request = {name: getattr(arguments, name) for name in NAMES}
    machine = describe_machine(make_fabric(arguments.device).device)
    with tempfile.TemporaryDirectory() as scratch:
        store = make_store(Path(scratch) / "store.zarr")
        for encoder in arguments.encoders:
            for deterministic in (False, True):
                twice = [in_a_process(MODULE, str(store), encoder, deterministic, request) for _ in range(2)]
                rows.append(row(encoder, deterministic, twice))
                if arguments.json:
                    arguments.json.write_text(json.dumps({"machine": machine, "request": request, "rows": rows}, indent=1) + "\n")
                print(describe(rows[-1:]), file=sys.stderr, flush=True)
    return rows


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__, size="paper", batch=32, frames=24, points=2048, steps=20)
    parser.add_argument("--encoders", nargs="+", default=["point4d", "p4transformer"])
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = parse()
    with user_errors():
        print(json.dumps(train(*json.loads(arguments.child))) if arguments.child else describe(measure(arguments)))


if __name__ == "__main__":
    main()
