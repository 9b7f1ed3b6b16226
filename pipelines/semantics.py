"""The synthetic benchmark: does distillation point by point pay, and how much of it is semantics?

    python -m pipelines.semantics [--scale small|demo] [--out out/semantics] [--json FILE]

People and animals in 24 actions, seen from any heading; test subjects never seen. All rows have the same student, clips, steps and
probes. Beside the untrained encoder and the global baseline stand the controls: targets of shuffled points, of an untrained network
that knows positions, and a fixed random vector for each patch index (position and nothing else); and what the targets of each store
tell without any student.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path

from cross4d_cache.build.request import BuildRequest, BuildSettings, DatasetRequest, TeacherRequest
from cross4d_cache.errors import user_errors
from cross4d_train.clips import ClipSettings
from cross4d_train.evaluation.finetune import TuningSettings
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.settings import EncoderSettings
from pipelines.experiment.comparison import Budget, Comparison, Row, as_record
from pipelines.experiment.report import markdown
from pipelines.experiment.work import Store
from pipelines.report_file import report_file

VERSION = 1
"""Changes whenever the data or the protocol does; results of different versions do not compare."""

POINTS = BuildSettings(points_per_frame=1024)
STORES = {
    "tiny": BuildRequest(settings=POINTS),
    "untrained": BuildRequest(teacher=TeacherRequest(weights="random"), settings=POINTS),
    "position": BuildRequest(teacher=TeacherRequest(name="position"), settings=POINTS),
}
REFERENCE = "dense"


def objective(name: str, conditioning: str) -> ObjectiveSettings:
    """An objective with its conditioning; the rest as by default."""
    return ObjectiveSettings(name=name, conditioning=conditioning)


DEFAULT = ObjectiveSettings().conditioning
RATES = (2e-3,)
GLOBAL_RATES = (1e-3, 3e-3)
ROWS = [
    Row(name="untrained", store="tiny", objective=None, finetuned=True),
    Row(name="global, raw targets", store="tiny", objective=objective("global", "none"), learning_rates=GLOBAL_RATES),
    Row(name="global, centred", store="tiny", objective=objective("global", "center"), learning_rates=GLOBAL_RATES),
    Row(name=REFERENCE, store="tiny", objective=objective("dense", DEFAULT), learning_rates=RATES, finetuned=True),
    Row(name="dense, shuffled points", store="shuffled", objective=objective("dense", DEFAULT), learning_rates=RATES),
    Row(name="dense, untrained teacher", store="untrained", objective=objective("dense", DEFAULT), learning_rates=RATES),
    Row(name="dense, patch index", store="position", objective=objective("dense", DEFAULT), learning_rates=RATES, finetuned=True),
    *(
        Row(name=f"dense, {conditioning}", store="tiny", objective=objective("dense", conditioning), learning_rates=RATES)
        for conditioning in ("none", "center", "whiten-patch:32")
    ),
    *(
        Row(name=f"no student: targets, {store}", store=store, objective=None, targets=True)
        for store in ("tiny", "shuffled", "untrained", "position")
    ),
]
"""`whiten-patch:32` is the default conditioning with the mean per patch index subtracted in place of the mean."""

SCALES = {
    "small": {"data_seeds": 2, "seeds": 3, "humans": 12, "animals": 6, "epochs": 12, "clips": 2},
    "demo": {"data_seeds": 1, "seeds": 1, "humans": 3, "animals": 2, "epochs": 8, "clips": 2},
}


def budget(scale: Mapping[str, int], *, tuned: bool) -> Budget:
    """What all rows have in common; `tuned` adds fine-tuning for the rows that ask for it."""
    return Budget(
        encoder=EncoderSettings(size="mini"),
        clips=ClipSettings(num_frames=8, num_points=256, stride=3),
        num_epochs=scale["epochs"],
        clips_per_sequence=scale["clips"],
        protocol="cross-subject",
        num_windows=2,
        parts=True,
        finetune=TuningSettings() if tuned else None,
    )


def stores_in(out: Path, requests: Mapping[str, BuildRequest], scale: Mapping[str, int]) -> dict[str, dict[str, Store]]:
    """The stores of every data seed by name, on people and animals of that seed, and the control of shuffled points of `tiny`."""
    stores: dict[str, dict[str, Store]] = {}
    for seed in range(scale["data_seeds"]):
        options = {"seed": 1000 + seed, "num_humans": scale["humans"], "num_animals": scale["animals"]}
        options |= {"min_frames": 24, "max_frames": 28, "heading_range_degrees": 180}
        dataset = DatasetRequest(options={name: str(value) for name, value in options.items()})
        made = {
            name: Store(path=out / f"data{seed}" / f"{name}.zarr", request=request.model_copy(update={"dataset": dataset}))
            for name, request in requests.items()
        }
        stores[f"data{seed}"] = made | {"shuffled": made["tiny"].shuffled("shuffled")}
    return stores


def main() -> None:
    """Build the stores, train and judge every row, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--out", type=Path, default=Path("out/semantics"))
    parser.add_argument("--json", type=report_file, help="write everything to this file")
    arguments = parser.parse_args()
    started = time.perf_counter()
    out: Path = arguments.out / arguments.scale
    scale = SCALES[arguments.scale]
    common = budget(scale, tuned=arguments.scale == "small")
    comparison = Comparison(ROWS, stores_in(out, STORES, scale), common, reference=REFERENCE, root=out)
    with user_errors():
        comparison.build()
        finished = comparison.finished(scale["seeds"], comparison.best_rates(scale["seeds"]))
    found = as_record(comparison, finished, time.perf_counter() - started)
    found |= {"benchmark": f"synthetic {arguments.scale}, version {VERSION}"}
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{common.describe()}\n\n{markdown(finished)}\n{found['minutes']} minutes")


if __name__ == "__main__":
    main()
