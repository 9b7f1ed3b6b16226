"""The paper's tables on HOI4D, 4D semantic segmentation.

    python -m pipelines.hoi4d --data DIR [--out out/hoi4d] [--tables 6,17] [--seeds 3] [--scale small|paper] [--other out/msr_action3d]

Dense students of MSR-Action3D are asked too where `--other` names the folder of that recipe.
"""

from pipelines.paper.benchmark import Benchmark
from pipelines.paper.recipe import main
from pipelines.paper.scales import PAPER_TEACHERS, paper, small

BENCHMARK = Benchmark(
    name="hoi4d",
    dataset="hoi4d",
    protocol="paper",
    teachers={"small": ("tiny",), "paper": PAPER_TEACHERS[:1]},
    tables=(6, 17),
    figures=(2, 3, 4, 5, 7, 8),
    scales={"small": small(stride=4, num_epochs=4, clips_per_sequence=1), "paper": paper("hoi4d")},
)

if __name__ == "__main__":
    main(BENCHMARK, __doc__)
