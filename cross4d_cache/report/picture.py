"""A store at a glance, as a picture."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cross4d_cache.errors import OutputError
from cross4d_cache.installed import needed
from cross4d_cache.store import Cache
from cross4d_cache.types import UNLABELLED

with needed("matplotlib", "draws pictures"):
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.ticker import MaxNLocator

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

MOST_BINS, LEAST_ROWS, MOST_LABELS = 30, 4, 15
"""Bins of lengths; places on an axis, so that one bar alone stays a bar; bars that bear their number."""
MOST_NAMES, MOST_LETTERS = 40, 24
"""Names beside the bars of actions, and letters of a name."""


def draw_summary(cache: Cache, path: Path) -> None:
    """Lengths of sequences, sequences by action and split, share of points with a target by part, and a frame whose colours are patches.

    Raises:
        CacheError: the store cannot be read.
        OutputError: the picture cannot be written.
    """
    figure, axes = plt.subplots(2, 2, figsize=(11, 8))
    _lengths(cache, axes[0, 0])
    _actions(cache, axes[0, 1])
    _coverage(cache, axes[1, 0])
    _frame(cache, axes[1, 1])
    manifest = cache.manifest
    random = " WITH RANDOM WEIGHTS" if manifest.teacher.is_random else ""
    title = f"{manifest.dataset.name}: {len(cache.sequences):,} sequences, teacher {manifest.teacher.name}{random}"
    figure.suptitle(title, parse_math=False)
    figure.tight_layout()
    try:
        figure.savefig(path, dpi=100)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path}: {error}", expected="the name of a .png file", hint="choose another `png`") from None
    finally:
        plt.close(figure)


def _lengths(cache: Cache, axes: Axes) -> None:
    lengths = np.array([info.num_frames for info in cache.sequences], int)
    least, most = (int(lengths.min()), int(lengths.max())) if len(lengths) else (1, 1)
    width = -(-(most - least + 1) // MOST_BINS)  # whole frames, so that no bin is empty for want of a number in it
    edges = np.arange(least, most + width + 1, width) - 0.5
    axes.hist(lengths, bins=edges.tolist(), color="tab:blue", rwidth=0.9)
    margin = max(2.0, 0.05 * (most - least))
    axes.set(xlabel="frames", ylabel="sequences", xlim=(max(0.0, least - margin), most + margin))
    axes.set_title("length of sequences" if most > least else f"length of sequences: {most} frames each")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _actions(cache: Cache, axes: Axes) -> None:
    protocols = cache.manifest.dataset.protocols
    names = cache.manifest.dataset.action_names
    actions = sorted({info.action for info in cache.sequences})
    left = np.zeros(len(actions))
    for side in ("train", "test", "neither"):
        of_side = [
            info.action for info in cache.sequences if (info.splits.get(protocols[0], "neither") if protocols else "neither") == side
        ]
        counts = np.array([Counter(of_side)[action] for action in actions], float)
        if counts.any():
            label = f"{side}: {int(counts.sum()):,}" if protocols else "all"
            axes.barh(np.arange(len(actions)), counts, left=left, label=label, height=0.8)
            left += counts
    axes.set(xlabel="sequences", ylim=(max(len(actions), LEAST_ROWS) - 0.5, -0.5))  # the first on top; one alone does not fill the picture
    step = -(-len(actions) // MOST_NAMES) or 1
    axes.set_yticks(np.arange(len(actions))[::step], [_name_of(action, names) for action in actions[::step]], parse_math=False)
    axes.tick_params(axis="y", labelsize=min(9.0, 220 / max(len(actions) // step, 1)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"actions, {protocols[0]}" if protocols else "actions", parse_math=False)
    if actions:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), fontsize=8)  # beside the bars, which may fill all rows


def _name_of(action: int, names: Sequence[str]) -> str:
    """At most some letters of it: the picture has to hold the names of all."""
    if action == UNLABELLED:
        return "no action"
    name = names[action] if action < len(names) else f"action {action}"
    return name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}\u2026"


def _coverage(cache: Cache, axes: Axes) -> None:
    shares = [part.num_visible / max(part.num_points, 1) for part in cache.manifest.parts]
    axes.bar(np.arange(len(shares)), shares, color="tab:green", width=0.8 if len(shares) < MOST_BINS else 1.0)
    axes.set(
        xlabel="part of the store", ylabel="share of points with a target", ylim=(0, 1), xlim=(-0.6, max(len(shares), LEAST_ROWS) - 0.4)
    )
    visible, points = (sum(getattr(part, name) for part in cache.manifest.parts) for name in ("num_visible", "num_points"))
    axes.set_title(f"coverage: {visible / max(points, 1):.0%} of all points have a target")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(shares) <= MOST_LABELS:
        axes.set_xticks(range(len(shares)))
        for number, share in enumerate(shares):
            axes.text(number, share, f"{share:.0%}", ha="center", va="bottom" if share < 0.9 else "top", fontsize=8)


def _frame(cache: Cache, axes: Axes) -> None:
    """The middle frame of the first sequence, seen along z; grey points have no target."""
    if not cache.sequences:
        axes.set(title="no part is finished yet")
        return
    info = cache.sequences[0]
    clip = cache.read_clip(0, np.array([info.num_frames // 2]))
    rows = clip.rows.max(axis=1)
    patches = clip.patches[rows].astype(np.int64) if len(clip.patches) else np.zeros(len(rows), np.int64)
    colours = plt.get_cmap("tab20")(patches * 7 % 20)
    colours[rows < 0] = (0.8, 0.8, 0.8, 1)
    axes.scatter(clip.points[:, 0], clip.points[:, 1], s=2, c=colours)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.set(xlabel="x, m", ylabel="y, m")
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.set_title(f"{info.id}, frame {info.num_frames // 2}: patches", parse_math=False)
