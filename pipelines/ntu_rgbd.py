"""The paper's tables on NTU RGB+D 60.

    python -m pipelines.ntu_rgbd --data DIR [--out out/ntu_rgbd] [--tables 1,5] [--seeds 3] [--scale small|paper]

The split is cross-subject; cross-view with `--protocol cross-view`.
"""

from pipelines.paper.benchmark import Benchmark
from pipelines.paper.recipe import main
from pipelines.paper.scales import PAPER_TEACHERS, paper, small

BENCHMARK = Benchmark(
    name="ntu_rgbd",
    dataset="ntu_rgbd",
    protocol="cross-subject",
    teachers={"small": ("tiny",), "paper": PAPER_TEACHERS[:1]},
    tables=(1, 5, 11, 12),
    figures=(2, 3, 5, 7, 8),
    scales={"small": small(stride=6, num_epochs=1, clips_per_sequence=1, num_windows=2), "paper": paper("ntu_rgbd")},
)

if __name__ == "__main__":
    main(BENCHMARK, __doc__)
