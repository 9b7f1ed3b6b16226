"""A store at a glance, as a picture."""

from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from cross4d_cache.errors import OutputError
from cross4d_cache.store import Cache

matplotlib.use("Agg")
import matplotlib.pyplot as plt


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
        raise OutputError(f"cannot write {path}: {error}", expected="the name of a .png file", hint="choose another --png") from None
    finally:
        plt.close(figure)


def _lengths(cache: Cache, axes: Axes) -> None:
    axes.hist([info.num_frames for info in cache.sequences], bins=30, color="tab:blue")
    axes.set(xlabel="frames", ylabel="sequences", title="length of sequences")


def _actions(cache: Cache, axes: Axes) -> None:
    protocols = cache.manifest.dataset.protocols
    actions = sorted({info.action for info in cache.sequences})
    bottom = np.zeros(len(actions))
    for side in ("train", "test", "neither"):
        of_side = [
            info.action for info in cache.sequences if (info.splits.get(protocols[0], "neither") if protocols else "neither") == side
        ]
        counts = np.array([Counter(of_side)[action] for action in actions], float)
        if counts.any():
            axes.bar(np.arange(len(actions)), counts, bottom=bottom, label=side if protocols else "all", width=0.9)
            bottom += counts
    axes.set(xlabel="action", ylabel="sequences")
    axes.set_title(f"actions, {protocols[0]}" if protocols else "actions", parse_math=False)
    if actions:
        axes.legend()


def _coverage(cache: Cache, axes: Axes) -> None:
    shares = [part.num_visible / max(part.num_points, 1) for part in cache.manifest.parts]
    axes.bar(np.arange(len(shares)), shares, color="tab:green", width=1.0)
    axes.set(xlabel="part", ylabel="share of points with a target", ylim=(0, 1), title="coverage")


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
    axes.set_title(f"{info.id}, frame {info.num_frames // 2}: patches", parse_math=False)
