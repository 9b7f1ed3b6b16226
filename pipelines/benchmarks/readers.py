"""How fast the dataset readers are, how much memory they take, and what they read: a picture of one sequence of every form.

    python -m pipelines.benchmarks.readers [-o sheet.png] [--json] [--only NAME]
    python -m pipelines.benchmarks.readers --dataset NAME --data DIR [--option KEY=VALUE] ...

The first writes synthetic bodies in every on-disk form, at real sizes, into a temporary folder; HOI4D's semantic file declares 50 GB,
of which all but the first sequence is a hole. The second reads a folder of yours. Each is read in a process of its own, at most four
sequences spread over the listing to their end, the files in the page cache. `peak` is that process's largest resident memory, `growth` how
much of it came with the first frame or later.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from cross4d_cache.build.preparation import thin
from cross4d_cache.datasets import open_dataset
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.errors import user_errors
from pipelines.benchmarks.child import in_a_process
from pipelines.benchmarks.machine import peak_memory
from pipelines.benchmarks.raw_forms import FORMS

MOST_SEQUENCES = 4
PICTURE_FRAMES = 4


def measure(dataset: Dataset) -> dict[str, Any]:
    """Read some sequences to their end, frame by frame."""
    begin = time.perf_counter()
    sequences = dataset.sequences()
    listed = time.perf_counter() - begin
    chosen = [sequences[index] for index in sorted({*np.linspace(0, len(sequences) - 1, MOST_SEQUENCES).astype(int).tolist()})]
    before = peak_memory()
    for _ in dataset.frames(chosen[0]):
        pass  # imports, page cache
    num_frames = num_points = 0
    begin = time.perf_counter()
    for info in chosen:
        for frame in dataset.frames(info):
            num_frames += 1
            num_points += len(frame.points)
    seconds = time.perf_counter() - begin
    peak = peak_memory()
    return {
        "dataset": dataset.name,
        "options": dataset.options.model_dump(mode="json"),
        "sequences_listed": len(sequences),
        "listing_seconds": round(listed, 3),
        "frames_read": num_frames,
        "points_per_frame": round(num_points / num_frames),
        "frames_per_second": round(num_frames / seconds, 1),
        "points_per_second": round(num_points / seconds),
        "peak_megabytes": round(peak),
        "growth_megabytes": round(peak - before, 1),
    }


def measure_apart(name: str, data: Path, options: dict[str, str]) -> dict[str, Any]:
    """`measure` in a process of its own, so that memory is that of one reader."""
    return in_a_process(__spec__.name, name, str(data), options)


def draw(rows: list[tuple[str, Dataset]], output: Path) -> None:
    """One row a form: frames of its first sequence, right and down as in the picture, brightness by depth."""
    figure, grid = plt.subplots(len(rows), PICTURE_FRAMES, figsize=(3 * PICTURE_FRAMES, 3 * len(rows)), squeeze=False)
    for axes_row, (label, dataset) in zip(grid, rows, strict=True):
        info = dataset.sequences()[0]
        sequence = thin(info, dataset.frames(info), points_per_frame=20_000, seed=0)
        low, high = np.percentile(sequence.points, [1, 99], axis=0)
        for axes, t in zip(axes_row, np.linspace(0, info.num_frames - 1, PICTURE_FRAMES).astype(int), strict=True):
            x, y, z = sequence.frame(t).T
            axes.scatter(x, y, c=-z, s=0.3, cmap="viridis", vmin=-high[2], vmax=-low[2], linewidths=0)
            half = max(high[0] - low[0], high[1] - low[1]) * 0.6
            centre = (low + high) / 2
            axes.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] + half, centre[1] - half), aspect="equal")
            axes.tick_params(labelsize=6)
        axes_row[0].set_ylabel(f"{label}\n{info.id}", fontsize=8)
    figure.tight_layout()
    figure.savefig(output, dpi=80)
    plt.close(figure)


def main() -> None:
    """Parse the command line, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="dataset of your folder")
    parser.add_argument("--data", type=Path, help="your folder")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="option of the dataset; repeatable")
    parser.add_argument("--only", default="", help="forms whose name begins so")
    parser.add_argument("-o", "--output", type=Path, help="image file to write")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        name, data, options = json.loads(args.child)
        print(json.dumps(measure(open_dataset(name, Path(data), options))))
        return
    results: dict[str, Any] = {}
    pictures: list[tuple[str, Dataset]] = []
    with tempfile.TemporaryDirectory() as scratch:
        jobs = [(args.dataset, args.dataset, args.data, dict(pair.split("=", 1) for pair in args.option))] if args.dataset else []
        for form in FORMS if not jobs else ():
            if form.name.startswith(args.only):
                folder = Path(scratch) / form.name.replace(" ", "_")
                folder.mkdir()
                form.write(folder)
                jobs.append((form.name, form.dataset, folder, dict(form.options)))
        for label, name, folder, options in jobs:
            results[label] = measure_apart(name, folder, options)
            pictures.append((label, open_dataset(name, folder, options)))
            if not args.json:
                print(f"{label:30}", *(f"{key} {value}" for key, value in results[label].items() if key != "options"), sep="  ", flush=True)
        if args.output:
            draw(pictures, args.output)
    if args.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    with user_errors():
        main()
