"""What the students of another recipe know of single points, II: tracks of real scans, which none of them has seen.

    python -m pipelines.scans --data DIR --other out/msr_action3d [--out out/scans] [--seeds 5]

DIR holds a folder for each sequence, with a file for each frame, in which point i is the same piece of surface in all frames (as D-FAUST's
scans, y up). Points are matched across frames by their features.
"""

from pipelines.assignment import REFERENCE
from pipelines.bodies import students_of
from pipelines.experiment.table import Cell, Table
from pipelines.paper.benchmark import Benchmark, Setup
from pipelines.paper.recipe import main
from pipelines.paper.scales import small
from pipelines.paper.tables import Others, match_cell

BENCHMARK = Benchmark(
    name="scans",
    dataset="folder",
    options={"small": {"tracks": "true", "axes": "x,-y,-z"}},
    protocol=None,
    teachers={"small": ("tiny",)},
    tables=(1,),
    figures=(),
    scales={"small": small(stride=2)},
)
MATCHERS = {"raw coordinates": "coordinates", "a random point": "chance"}


def tracks(setup: Setup, others: Others) -> Table:
    """Accuracy at 2 % of the bounding box's diagonal, by gap in frames of the scans."""
    gaps, stride = setup.scale.gaps, setup.scale.clips.stride
    rows: dict[str, dict[str, Cell]] = {}
    for name, student in students_of(others).items():
        run = setup.judge("correspondence", student, {"gaps": gaps, "num_windows": 3})
        for number, gap in enumerate(gaps):
            column = f"gap {gap * stride}"
            for row, matcher in ((name, "features"), *MATCHERS.items()):
                rows.setdefault(row, {}).setdefault(column, match_cell(run, number, matcher))
    columns = tuple(f"gap {gap * stride}" for gap in gaps)
    note = "Of a single sequence there is no interval over videos: its gains say nothing about other ones."
    return Table(number=1, title="Tracks of real scans", columns=columns, rows=rows, reference=REFERENCE, note=note)


if __name__ == "__main__":
    main(BENCHMARK, __doc__, builders={1: tracks})
