"""Measure how fast synthetic sequences are generated, in frames a second on one core.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m pipelines.benchmarks.synthetic [--sequences 60] [--json]

The sequences are spread evenly over the default dataset. Time is the process's own, so other programs matter little; set the
two variables, or numpy's matrix products may use more cores.
"""

import argparse
import json
import time

import numpy as np

from cross4d_cache.datasets.synthetic.dataset import Synthetic, SyntheticOptions


def measure(dataset: Synthetic, num_sequences: int) -> dict[str, float]:
    """Frames a second and the number of points in a frame, over sequences spread evenly over the listing."""
    infos = dataset.sequences()
    chosen = [infos[index] for index in np.linspace(0, len(infos) - 1, min(num_sequences, len(infos))).astype(int)]
    dataset.read(chosen[0])
    counts = []
    start = time.process_time()
    for info in chosen:
        counts.append(np.diff(dataset.read(info).point_offsets))
    seconds = time.process_time() - start
    points = np.concatenate(counts)
    return {
        "frames_per_second": len(points) / seconds,
        "frames_measured": len(points),
        "frames_in_dataset": sum(info.num_frames for info in infos),
        "points_per_frame_mean": float(points.mean()),
        "points_per_frame_min": int(points.min()),
        "points_per_frame_median": float(np.median(points)),
        "points_per_frame_max": int(points.max()),
    }


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=60, help="how many sequences to generate")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    args = parser.parse_args()
    result = measure(Synthetic(None, SyntheticOptions()), args.sequences)
    if args.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name.replace('_', ' '):>24}  {value:,.0f}")


if __name__ == "__main__":
    main()
