"""Every objective on equal terms: one student, the same clips and steps, the same probes, on synthetic data.

    python -m pipelines.objectives [--scale small|demo] [--out out/objectives] [--json FILE]

The data is that of pipelines/semantics.py with its first seed. Every trained row is tried with the same two learning rates on the first
student seed, and all its seeds have the better one. The forecasting family needs several views to differ in, so it has a store of two,
and `dense` on it beside.
"""

import argparse
import json
import time
from pathlib import Path

from cross4d_cache.build.request import BuildRequest
from cross4d_cache.errors import user_errors
from cross4d_train.objectives.objective import ObjectiveSettings
from pipelines.experiment.comparison import Comparison, Row, as_record
from pipelines.experiment.report import markdown
from pipelines.report_file import report_file
from pipelines.semantics import POINTS, VERSION, budget, stores_in

STORES = {
    "tiny": BuildRequest(settings=POINTS),
    "views": BuildRequest(settings=POINTS.model_copy(update={"views": 2})),
    "random": BuildRequest(settings=POINTS.model_copy(update={"correspondence": "random"})),
    "shifted": BuildRequest(settings=POINTS.model_copy(update={"correspondence": "shifted:16"})),
}
REFERENCE = "dense"
RATES = (1e-3, 3e-3)
GLOBAL = "center"
"""Conditioning of global embeddings, which is best for them in the synthetic benchmark."""

DISTILLED = {"global": GLOBAL, "crossvideo": GLOBAL, "dense": ObjectiveSettings().conditioning}
INTRA_MODAL = ("ijepa", "mastpre", "uni4d", "vicreg")
FORECASTS = ("forecast", "forecast:field", "forecast:rollout", "forecast:consistency")
CONTROLS = ("shuffled", "random", "shifted")


def _row(name: str, store: str, objective: str, conditioning: str | None = None) -> Row:
    settings = ObjectiveSettings(name=objective) if conditioning is None else ObjectiveSettings(name=objective, conditioning=conditioning)
    return Row(name=name, store=store, objective=settings, learning_rates=RATES)


ROWS = [
    Row(name="untrained", store="tiny", objective=None),
    *(_row(name, "tiny", name, conditioning) for name, conditioning in DISTILLED.items()),
    *(_row(f"dense, {store} points", store, "dense") for store in CONTROLS),
    *(_row(name, "tiny", name) for name in INTRA_MODAL),
    _row("dense, two views", "views", "dense"),
    *(_row(name, "views", name) for name in FORECASTS),
]

SCALES = {
    "small": {"data_seeds": 1, "seeds": 3, "humans": 12, "animals": 6, "epochs": 12, "clips": 2},
    "demo": {"data_seeds": 1, "seeds": 1, "humans": 3, "animals": 2, "epochs": 2, "clips": 1},
}


def main() -> None:
    """Build the stores, train and judge every row, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--out", type=Path, default=Path("out/objectives"))
    parser.add_argument("--json", type=report_file, help="write everything to this file")
    arguments = parser.parse_args()
    started = time.perf_counter()
    out, scale = arguments.out / arguments.scale, SCALES[arguments.scale]
    common = budget(scale, tuned=False)
    comparison = Comparison(ROWS, stores_in(out, STORES, scale), common, reference=REFERENCE, root=out)
    with user_errors():
        comparison.build()
        finished = comparison.finished(scale["seeds"], comparison.best_rates(1))
    found = as_record(comparison, finished, time.perf_counter() - started)
    found |= {"benchmark": f"objectives {arguments.scale}, data of synthetic version {VERSION}"}
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{common.describe()}\n\n{markdown(finished)}\n{found['minutes']} minutes")


if __name__ == "__main__":
    main()
