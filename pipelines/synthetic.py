"""All of the paper's tables and figures on synthetic data, offline: people, and animals to transfer to and from.

    python -m pipelines.synthetic [--out out/synthetic] [--tables 1,4] [--seeds 3] [--scale small|paper]

It shows that everything runs, and what a table looks like; the numbers of the paper are of other data and stand beside none of these.
"""

from cross4d_cache.build.request import BuildSettings
from pipelines.paper.benchmark import Benchmark
from pipelines.paper.recipe import main
from pipelines.paper.scales import paper, small
from pipelines.paper.tables import TABLES

COMMON = {"min_frames": "24", "max_frames": "28", "heading_range_degrees": "180"}
SMALL = small(stride=3, num_epochs=6, clips_per_sequence=2, num_windows=2)
SCALES = {"small": SMALL, "paper": paper("synthetic")}


def _benchmark(name: str, kind: str, seed: int) -> Benchmark:
    absent = "num_animals" if kind == "num_humans" else "num_humans"
    sizes = {scale: {kind: count, absent: "0", "seed": str(seed), **COMMON} for scale, count in (("small", "8"), ("paper", "60"))}
    return Benchmark(
        name=name,
        dataset="synthetic",
        options=sizes,
        stores={"small": BuildSettings(points_per_frame=1024)},
        needs_data=False,
        protocol="cross-subject",
        teachers={"small": ("tiny", "position"), "paper": ("tiny", "position")},
        tables=tuple(TABLES),
        figures=(2, 3, 4, 5, 6, 7, 8),
        scales=SCALES,
    )


PEOPLE = _benchmark("synthetic", "num_humans", 1000)
ANIMALS = _benchmark("synthetic_animals", "num_animals", 2000)

if __name__ == "__main__":
    main(PEOPLE, __doc__, [ANIMALS])
