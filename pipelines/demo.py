"""The main job in a few minutes on a laptop: cache, pre-training, evaluation, picture. `make demo` runs it.

    python -m pipelines.demo [--out out/demo]

Synthetic people and animals, the teacher that comes with the package, the mini student. The encoder is compared with the untrained one
over several seeds; the picture shows one of the runs. Whatever is finished is kept; a second call goes on from there.
"""

import argparse
import time
from math import sqrt
from pathlib import Path
from statistics import mean, stdev

import matplotlib
import numpy as np
import torch
from jaxtyping import Float32, Shaped
from scipy.stats import t, ttest_rel
from torch import Tensor

from cross4d_cache.camera import batch_cameras, place_cameras
from cross4d_cache.errors import user_errors
from cross4d_cache.render import render
from cross4d_cache.store import Cache, open_cache
from cross4d_cache.types import CachedClip
from cross4d_train.checkpoint import load_checkpoint, load_encoder, load_weights
from cross4d_train.clips import ClipSettings
from cross4d_train.objectives import build_objective
from cross4d_train.objectives.distillation import Distillation
from cross4d_train.objectives.objective import ObjectiveSettings, TargetSpec
from cross4d_train.settings import EncoderSettings
from cross4d_train.visualize.colours import point_features, principal_colours
from pipelines.commands import run
from pipelines.comparison import Row, plan_jobs, run_jobs
from pipelines.judging import Budget, Outcome

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

DATASET = ["--dataset", "synthetic", "--option", "num_humans=9", "--option", "num_animals=3"]
DATASET += ["--option", "min_frames=24", "--option", "max_frames=24", "--option", "heading_range_degrees=180"]
BUDGET = Budget(
    encoder=EncoderSettings(size="mini"),
    clips=ClipSettings(num_frames=8, num_points=256, stride=3),
    num_epochs=16,
    clips_per_sequence=2,
    protocol="cross-subject",
    num_windows=2,
    parts=True,
    finetune=None,
)
ROWS = [
    Row(name="untrained", store="tiny", objective=None),
    Row(name="dense", store="tiny", objective=ObjectiveSettings(), learning_rates=(2e-3,)),
]
SEEDS = 5
COLUMNS = {"action std": "action", "parts 1000": "parts, 1,000 labels"}
PICTURED = ("human01_wave_r00", "human04_jumping_jack_r00", "human01_forward_kick_r00", "animal01_gallop_r00")


def main() -> None:
    """Run the demo and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    out: Path = parser.parse_args().out
    started = time.perf_counter()
    store, trained = out / "store.zarr", out / "run"
    build = run("cross4d-cache", "build", *DATASET, "--points", 1024, "--out", store)
    clips = ["--frames", BUDGET.clips.num_frames, "--points", BUDGET.clips.num_points, "--stride", BUDGET.clips.stride]
    length = ["--epochs", BUDGET.num_epochs, "--clips-per-sequence", BUDGET.clips_per_sequence, "--lr", ROWS[1].learning_rates[0]]
    run("cross4d-train", "pretrain", "--cache", store, "--out", trained, "--size", BUDGET.encoder.size, *clips, *length, "--resume")
    with user_errors():
        outcomes = run_jobs(plan_jobs(ROWS, {"demo": {"tiny": store}}, SEEDS, BUDGET), out / "runs")
        draw(open_cache(store), trained / "checkpoint.safetensors", out / "demo.png")
    minutes = (time.perf_counter() - started) / 60
    print(f"store    {build['frames']} frames, {build['bytes'] / 1e6:.0f} MB, {build['visible_share']:.0%} of points visible")
    print(f"teacher  {build['teacher']}, weights {build['weights']}\n")
    print(describe(outcomes))
    print(f"\npicture  {out / 'demo.png'}\ntime     {minutes:.1f} min")


def describe(outcomes: list[Outcome]) -> str:
    """Means with 95 % intervals over seeds, and whether the difference, paired by seed, is one."""
    values = {
        row.name: [[outcome.scores[column] for column in COLUMNS] for outcome in outcomes if outcome.job.row == row.name] for row in ROWS
    }
    lines = [f"test subjects never seen; {SEEDS} seeds; linear probes on frozen features: video accuracy, mean IoU of parts"]
    lines.append(f"{'encoder':12}" + "".join(f"{title:>24}" for title in COLUMNS.values()))
    for name, runs in values.items():
        lines.append(f"{name:12}" + "".join(f"{_interval(column):>24}" for column in zip(*runs, strict=True)))
    tests = [float(ttest_rel(*pair).pvalue) for pair in zip(*(list(zip(*runs, strict=True)) for runs in values.values()), strict=True)]
    lines.append(f"{'paired t, p':12}" + "".join(f"{p:>24.4f}" for p in tests))
    return "\n".join(lines)


def _interval(values: tuple[float, ...]) -> str:
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return f"{mean(values):.3f} [{mean(values) - half:.3f}, {mean(values) + half:.3f}]"


def draw(cache: Cache, checkpoint: Path, path: Path) -> None:
    """One row a sequence: points, render, and as colours the targets, what the student predicts of them, and its own features.

    Targets and predictions share one colour space, so that equal colours mean equal features.
    """
    ids = [info.id for info in cache.sequences]
    rows = [name for name in PICTURED if name in ids]
    clips = [cache.read_clip(ids.index(name), np.arange(0, cache.sequences[ids.index(name)].num_frames, 3)) for name in rows]
    targets = [_teacher_features(clip) for clip in clips]
    predicted, own = _student_features(cache, clips, checkpoint)
    shared = _colours_of_groups(targets + predicted)
    columns = {
        f"teacher ({cache.manifest.teacher.name})": shared[: len(rows)],
        "student's prediction": shared[len(rows) :],
        "student's own features": _colours_of_groups(own),
    }
    figure, axes = plt.subplots(len(rows), 5, figsize=(15, 3.1 * len(rows)), squeeze=False)
    for row, (name, clip) in enumerate(zip(rows, clips, strict=True)):
        frame = len(clip.frames) // 2
        span = slice(clip.point_offsets[frame], clip.point_offsets[frame + 1])
        points, seen = clip.points[span], (clip.rows[span] >= 0).any(axis=1)
        _scatter(axes[row, 0], points, points[:, 2])
        axes[row, 1].imshow(_image(cache, ids.index(name), int(clip.frames[frame])), cmap="gray", vmin=0, vmax=1)
        for axis, (title, colours) in zip(axes[row, 2:], columns.items(), strict=True):
            shown = colours[row][span].copy()
            if title.startswith("teacher"):
                shown[~seen] = 0.85
            _scatter(axis, points, shown)
        axes[row, 0].set_ylabel(name.removesuffix("_r00"))
    for axis, title in zip(axes[0], ("input points (colour: depth)", "render", *columns), strict=True):
        axis.set_title(title)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _teacher_features(clip: CachedClip) -> Float32[Tensor, "point channel"]:
    """The target of every point, zero where there is none."""
    weight = torch.from_numpy((clip.rows >= 0).astype(np.float32))
    features = torch.from_numpy(clip.features.astype(np.float32))[torch.from_numpy(np.maximum(clip.rows, 0)).long()]
    return (features * weight[..., None]).sum(dim=1) / weight.sum(dim=1, keepdim=True).clamp_min(1)


def _student_features(
    cache: Cache, clips: list[CachedClip], checkpoint: Path
) -> tuple[list[Float32[Tensor, "_ channel"]], list[Float32[Tensor, "_ width"]]]:
    """For all stored points of each clip the target that the student predicts, and its own features."""
    loaded, manifest = load_checkpoint(checkpoint), cache.manifest
    encoder = load_encoder(loaded).eval()
    objective = build_objective(loaded.record.settings.objective, encoder, TargetSpec.of(manifest))
    assert isinstance(objective, Distillation)
    load_weights(objective, loaded.part("objective"), "objective")
    own = []
    for clip in clips:
        counts = np.diff(clip.point_offsets)
        most = int(counts.max())
        padded = [np.resize(np.arange(start, start + count), most) for start, count in zip(clip.point_offsets, counts, strict=False)]
        points = torch.from_numpy(clip.points[np.stack(padded)])[None]
        with torch.inference_mode():
            spread = point_features(encoder(points), points)[0]
        own.append(torch.cat([frame[:count] for frame, count in zip(spread, counts, strict=True)]))
    with torch.inference_mode():
        predictions = [objective.head(features) for features in own]
        # The cosine leaves the length of a prediction open; whitened targets have a deviation of one.
        length = torch.cat(predictions).square().mean().sqrt()
        return [objective.conditioning.restore(prediction / length) for prediction in predictions], own


def _colours_of_groups(groups: list[Float32[Tensor, "point channel"]]) -> list[Float32[np.ndarray, "point 3"]]:
    """One colour space for all groups."""
    colours = principal_colours(torch.cat(groups)).numpy()
    return np.split(colours, np.cumsum([len(group) for group in groups])[:-1])


def _image(cache: Cache, index: int, frame: int) -> Float32[np.ndarray, "height width"]:
    """The image that the teacher saw, rendered again from the store."""
    clip = cache.read_clip(index, np.arange(cache.sequences[index].num_frames), targets=False)
    views = place_cameras(clip.points, clip.point_offsets, cache.manifest.render)
    points = torch.from_numpy(clip.points[clip.point_offsets[frame] : clip.point_offsets[frame + 1]])
    cameras = batch_cameras([views], torch.device("cpu"))
    image: Float32[np.ndarray, "height width"] = (
        render(points, torch.zeros(len(points), dtype=torch.int64), cameras, cache.manifest.render).image[0].numpy()
    )
    return image


def _scatter(axis: Axes, points: Float32[np.ndarray, "point 3"], colours: Shaped[np.ndarray, "point ..."]) -> None:
    order = np.argsort(-points[:, 2])
    axis.scatter(points[order, 0], -points[order, 1], c=colours[order], s=3, linewidths=0)
    axis.set_aspect("equal")


if __name__ == "__main__":
    main()
