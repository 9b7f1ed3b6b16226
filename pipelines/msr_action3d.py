"""The paper's tables on MSR-Action3D.

    python -m pipelines.msr_action3d --data DIR [--out out/msr_action3d] [--tables 1,4] [--seeds 3] [--scale small|paper]

The split is the official one, subjects 1-5 against 6-10. Without subjects 6-10: `--protocol development`, 1-3 against 4-5. A teacher from
a folder: `--teacher hf=FOLDER`.
"""

from pipelines.paper.benchmark import Benchmark
from pipelines.paper.recipe import main
from pipelines.paper.scales import PAPER_TEACHERS, paper, small

BENCHMARK = Benchmark(
    name="msr_action3d",
    dataset="msr_action3d",
    protocol="cross-subject",
    teachers={"small": ("tiny",), "paper": PAPER_TEACHERS},
    tables=(1, 2, 3, 4, 5, 7, 10, 11, 12, 13, 14, 15, 18, 20),
    figures=(2, 3, 5, 6, 7, 8),
    scales={"small": small(stride=4), "paper": paper("msr_action3d")},
)

if __name__ == "__main__":
    main(BENCHMARK, __doc__)
