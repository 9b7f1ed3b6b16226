"""MSR-Action3D within the official training subjects: dense distillation with every conditioning of its targets.

    python -m pipelines.conditioning --data DIR --weights FOLDER [--out out/msr] [--seeds 3] [--json FILE]

Protocol `development`: subjects 1-3 train (pre-training sees their points, the probe their labels), 4-5 test. For two cores: clips of
8 frames (every fourth) x 256 points, the mini Point4D, 16 epochs of 4 clips a sequence. A recipe that is stopped goes on when it is
run again.
"""

import argparse
import json
import time
from pathlib import Path

from cross4d_cache.build.request import BuildRequest, DatasetRequest, TeacherRequest
from cross4d_cache.errors import user_errors
from cross4d_train.clips import ClipSettings
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.settings import EncoderSettings
from pipelines.experiment.comparison import Budget, Comparison, Row, as_record
from pipelines.experiment.report import markdown
from pipelines.experiment.work import Store
from pipelines.report_file import report_file

CONDITIONINGS = ("none", "center", "whiten:32", "center-patch", "whiten-patch:32")
ROWS = [
    Row(name="untrained", store="teacher", objective=None),
    *(
        Row(name=f"dense, {conditioning}", store="teacher", objective=ObjectiveSettings(conditioning=conditioning))
        for conditioning in CONDITIONINGS
    ),
]
REFERENCE = f"dense, {ObjectiveSettings().conditioning}"
BUDGET = Budget(
    encoder=EncoderSettings(size="mini"),
    clips=ClipSettings(num_frames=8, num_points=256, stride=4),
    num_epochs=16,
    clips_per_sequence=4,
    protocol="development",
    num_windows=5,
    parts=False,
    finetune=None,
)


def build_of(data: Path, weights: str) -> BuildRequest:
    """The store of MSR-Action3D by an image backbone of transformers."""
    return BuildRequest(
        dataset=DatasetRequest(name="msr_action3d", root=data.absolute()), teacher=TeacherRequest(name="hf", weights=weights)
    )


def main() -> None:
    """Build the store, train and judge every row, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the .bin files")
    parser.add_argument("--weights", required=True, help="teacher weights: folder or hub id of an image backbone")
    parser.add_argument("--out", type=Path, default=Path("out/msr"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=report_file, help="write everything to this file")
    arguments = parser.parse_args()
    started = time.perf_counter()
    store = Store(path=arguments.out / "store.zarr", request=build_of(arguments.data, arguments.weights))
    comparison = Comparison(ROWS, {"msr": {"teacher": store}}, BUDGET, reference=REFERENCE, root=arguments.out)
    with user_errors():
        [built] = comparison.build()
        finished = comparison.finished(arguments.seeds, comparison.best_rates(arguments.seeds))
    found = as_record(comparison, finished, time.perf_counter() - started) | {"build": built}
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    print(f"store: {built['sequences']} sequences, {built['frames']} frames, {built['bytes'] / 1e6:.1f} MB\n")
    print(f"{BUDGET.describe()}\n\n{markdown(finished)}\n{found['minutes']} minutes")


if __name__ == "__main__":
    main()
