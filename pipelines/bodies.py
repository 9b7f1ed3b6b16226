"""What the students of another recipe know of single points, I: parts of synthetic bodies, which none of them has seen.

    python -m pipelines.bodies --other out/msr_action3d [--out out/bodies] [--seeds 5]

A linear head a point on frozen encoders; people of a depth sensor in front of them, with true parts.
"""

from cross4d_cache.build.request import BuildSettings
from cross4d_cache.errors import SettingsError
from pipelines.assignment import REFERENCE, assigned
from pipelines.experiment import tally
from pipelines.experiment.table import Cell, Table
from pipelines.experiment.work import Student
from pipelines.paper.benchmark import GLOBAL, UNTRAINED, Benchmark, Setup
from pipelines.paper.recipe import main
from pipelines.paper.scales import small
from pipelines.paper.tables import PART_MEASURES, Others

BENCHMARK = Benchmark(
    name="bodies",
    dataset="synthetic",
    options={"small": {"num_humans": "12", "num_animals": "0", "min_frames": "32", "max_frames": "32", "seed": "4000"}},
    stores={"small": BuildSettings(points_per_frame=1024)},
    needs_data=False,
    protocol="cross-subject",
    teachers={"small": ("tiny",)},
    tables=(1,),
    figures=(),
    scales={"small": small(stride=4)},
)


def students_of(others: Others) -> dict[str, Student]:
    """All students of one other recipe that differ in what a point is given, and the two baselines.

    Raises:
        SettingsError: none is named, or several.
    """
    if len(others) != 1:
        raise SettingsError(f"{len(others)} other recipes", expected="one, whose students are asked", hint="name its folder: --other OUT")
    [setup] = others
    own = assigned(setup)
    minus = {f"{REFERENCE}, minus position mean": setup.dense(conditioning="center-patch")}
    return {UNTRAINED: setup.untrained(), GLOBAL: setup.distilled_globally(), **own, **minus}


def parts(setup: Setup, others: Others) -> Table:
    """Mean IoU, mean and overall accuracy of a linear head a point."""
    rows = {}
    for name, student in students_of(others).items():
        run = setup.judge("segment", student, {"num_epochs": setup.scale.segment_epochs})
        rows[name] = {column: Cell(runs=(run,), score=score, tally=tally.parts(score)) for column, score in PART_MEASURES.items()}
    return Table(number=1, title="Parts of synthetic bodies", columns=tuple(PART_MEASURES), rows=rows, reference=REFERENCE)


if __name__ == "__main__":
    main(BENCHMARK, __doc__, builders={1: parts})
