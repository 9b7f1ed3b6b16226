"""The paper's tables on the animals of DeformingThings4D.

python -m pipelines.deforming_things4d --data DIR [--out out/deforming_things4d] [--tables 1,16] [--seeds 3] [--scale small|paper]
"""

from pipelines.paper.benchmark import Benchmark
from pipelines.paper.recipe import main
from pipelines.paper.scales import PAPER_TEACHERS, paper, small

BENCHMARK = Benchmark(
    name="deforming_things4d",
    dataset="deforming_things4d",
    protocol="cross-identity",
    teachers={"small": ("tiny",), "paper": PAPER_TEACHERS[:1]},
    tables=(1, 5, 11, 12, 16),
    figures=(2, 3, 5, 7, 8),
    scales={"small": small(stride=2, num_epochs=8, clips_per_sequence=2), "paper": paper("deforming_things4d")},
)

if __name__ == "__main__":
    main(BENCHMARK, __doc__)
