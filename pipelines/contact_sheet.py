"""Draw frames of synthetic sequences as points coloured by body part: a grid of actions by time.

    python -m pipelines.contact_sheet -o sheet.png [--kind human|animal] [--actions walk,jump] [--columns 8] [--option seed=3]

Each row is one sequence of another subject where there are enough; columns are equal steps of time.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from cross4d_cache.datasets.synthetic.dataset import Synthetic, SyntheticOptions
from cross4d_cache.types import PointCloudSequence, SequenceInfo


def chosen_sequences(dataset: Synthetic, kind: str, actions: Sequence[str]) -> list[SequenceInfo]:
    """One sequence for each action of a kind, or for each that is named; neighbouring rows show different subjects."""
    names = [name for name in dataset.action_names if name.startswith(f"{kind}/")]
    if actions:
        names = [f"{kind}/{action}" for action in actions]
    found = []
    for row, name in enumerate(names):
        candidates = [info for info in dataset.sequences() if dataset.action_names[info.action] == name]
        found.append(candidates[row % len(candidates)])
    return found


def draw_frame(axes: Axes, sequence: PointCloudSequence, frame: int, half_width: float) -> None:
    """The points of one frame as the sensor sees them, shaded by depth and coloured by part."""
    points = sequence.frame(frame)
    assert sequence.part_labels is not None
    part = sequence.part_labels[sequence.point_offsets[frame] : sequence.point_offsets[frame + 1]]
    colours = plt.get_cmap("tab20")(part % 20)[:, :3]
    depth = points[:, 2]
    shade = 1.0 - 0.6 * (depth - depth.min()) / max(float(np.ptp(depth)), 0.3)
    axes.scatter(points[:, 0] / depth, points[:, 1] / depth, c=colours * shade[:, None], s=0.5, marker="s", linewidths=0)
    axes.set(xlim=(-half_width, half_width), ylim=(half_width, -half_width), xticks=[], yticks=[], aspect="equal")


def draw_sheet(dataset: Synthetic, infos: Sequence[SequenceInfo], columns: int, output: Path) -> None:
    """Write the grid of sequences by time to an image file."""
    figure, grid = plt.subplots(len(infos), columns, figsize=(1.9 * columns, 1.9 * len(infos)), squeeze=False)
    for row, info in zip(grid, infos, strict=True):
        sequence = dataset.read(info)
        for axes, frame in zip(row, np.linspace(0, info.num_frames - 1, columns).round().astype(int), strict=True):
            draw_frame(axes, sequence, int(frame), dataset.sensor.half_width)
        row[0].set_ylabel(info.id, fontsize=7)
    figure.subplots_adjust(left=0.03, right=1, bottom=0, top=1, wspace=0.02, hspace=0.02)
    figure.savefig(output, dpi=110)
    plt.close(figure)


def main() -> None:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="image file to write")
    parser.add_argument("--kind", choices=["human", "animal"], default="human")
    parser.add_argument("--actions", default="", help="comma-separated names; all of the kind by default")
    parser.add_argument("--columns", type=int, default=8, help="frames of each sequence")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="option of the dataset")
    args = parser.parse_args()
    options = dict(option.split("=", 1) for option in args.option)
    dataset = Synthetic(None, SyntheticOptions.model_validate(options))
    actions = [name for name in args.actions.split(",") if name]
    draw_sheet(dataset, chosen_sequences(dataset, args.kind, actions), args.columns, args.output)
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
