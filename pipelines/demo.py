"""The main job in a few minutes on a laptop: cache, pre-training, probe, picture. `make demo` runs it.

    python -m pipelines.demo [--out out/demo]

Until a trained teacher is part of the package, the teacher is DINOv2-S with RANDOM weights: everything runs as it would with real
ones, but the targets mean little. The store and the run are kept; a second call goes on from them.
"""

import argparse
import time
from pathlib import Path

import matplotlib
import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

from cross4d_cache.camera import batch_cameras, place_cameras
from cross4d_cache.render import render
from cross4d_cache.store import Cache, open_cache
from cross4d_cache.types import CachedClip
from cross4d_train.checkpoint import load_checkpoint, load_encoder
from cross4d_train.visualize.colours import point_features, principal_colours
from pipelines.commands import run

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

BUILD = ["--teacher", "dinov2-s", "--weights", "random", "--image-size", "126"]
DATASET = ["--dataset", "synthetic", "--option", "num_humans=6", "--option", "num_animals=3"]
DATASET += ["--option", "min_frames=24", "--option", "max_frames=24"]
CLIPS = ["--frames", "12", "--stride", "2", "--points", "512"]
TRAINING = ["--size", "small", "--epochs", "16", "--clips-per-sequence", "2", "--lr", "1e-3"]
PICTURED = ("human01_wave_r00", "human04_jumping_jack_r00", "human01_forward_kick_r00", "animal01_gallop_r00")


def main() -> None:
    """Run the demo and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    out: Path = parser.parse_args().out
    started = time.perf_counter()
    store, trained = out / "store.zarr", out / "run"
    build = run("cross4d-cache", "build", *DATASET, *BUILD, "--out", store)
    run("cross4d-train", "pretrain", "--cache", store, "--out", trained, *CLIPS, *TRAINING, "--resume")
    probes = {
        "dense": run("cross4d-train", "probe", "--checkpoint", trained / "checkpoint.safetensors", "--cache", store),
        "untrained": run("cross4d-train", "probe", "--checkpoint", "random", "--size", "small", *CLIPS, "--cache", store),
    }
    picture = out / "demo.png"
    draw(open_cache(store), trained / "checkpoint.safetensors", picture)
    minutes = (time.perf_counter() - started) / 60
    print(f"store    {build['frames']} frames, {build['bytes'] / 1e6:.0f} MB, {build['visible_share']:.0%} of points visible")
    print(f"teacher  {build['teacher']}, weights {build['weights']}")
    print("\naction accuracy of a linear probe, test subjects never seen (videos)")
    print(f"{'encoder':12}{'raw':>8}{'standardised':>14}")
    for name, probe in probes.items():
        print(f"{name:12}{probe['raw']['video_accuracy']:8.3f}{probe['standardised']['video_accuracy']:14.3f}")
    tested = probes["dense"]["num_test_videos"]
    print(f"\none seed, {tested} test videos: one video is {1 / tested:.3f}; the teacher was never trained")
    print(f"picture  {picture}\ntime     {minutes:.1f} min")


def draw(cache: Cache, checkpoint: Path, path: Path) -> None:
    """One row a sequence: points, render, teacher features of the points, student features of the points, as colours."""
    ids = [info.id for info in cache.sequences]
    rows = [name for name in PICTURED if name in ids]
    clips = [cache.read_clip(ids.index(name), np.arange(0, cache.sequences[ids.index(name)].num_frames, 2)) for name in rows]
    teacher = _colours_of_groups([_teacher_features(clip) for clip in clips])
    student = _colours_of_groups(_student_features(clips, checkpoint))
    figure, axes = plt.subplots(len(rows), 4, figsize=(13, 3.2 * len(rows)), squeeze=False)
    for row, (name, clip) in enumerate(zip(rows, clips, strict=True)):
        frame = len(clip.frames) // 2
        span = slice(clip.point_offsets[frame], clip.point_offsets[frame + 1])
        points, seen = clip.points[span], (clip.rows[span] >= 0).any(axis=1)
        _scatter(axes[row, 0], points, points[:, 2])
        axes[row, 1].imshow(_image(cache, ids.index(name), int(clip.frames[frame])), cmap="gray", vmin=0, vmax=1)
        colours = np.full((len(points), 3), 0.85)
        colours[seen] = teacher[row][span][seen]
        _scatter(axes[row, 2], points, colours)
        _scatter(axes[row, 3], points, student[row][span])
        axes[row, 0].set_ylabel(name.removesuffix("_r00"))
    label = cache.manifest.teacher.weights
    for axis, title in zip(axes[0], ("input points (colour: depth)", "render", f"teacher ({label}), PCA", "student, PCA"), strict=True):
        axis.set_title(title)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _teacher_features(clip: CachedClip) -> Float32[Tensor, "point channel"]:
    """The target of every point, zero where there is none."""
    weight = torch.from_numpy((clip.rows >= 0).astype(np.float32))
    features = torch.from_numpy(clip.features.astype(np.float32))[torch.from_numpy(np.maximum(clip.rows, 0)).long()]
    return (features * weight[..., None]).sum(dim=1) / weight.sum(dim=1, keepdim=True).clamp_min(1)


def _student_features(clips: list[CachedClip], checkpoint: Path) -> list[Float32[Tensor, "point channel"]]:
    """Features of all stored points of each clip."""
    encoder = load_encoder(load_checkpoint(checkpoint)).eval()
    features = []
    for clip in clips:
        counts = np.diff(clip.point_offsets)
        most = int(counts.max())
        padded = [np.resize(np.arange(start, start + count), most) for start, count in zip(clip.point_offsets, counts, strict=False)]
        points = torch.from_numpy(clip.points[np.stack(padded)])[None]
        with torch.inference_mode():
            spread = point_features(encoder(points), points)[0]
        features.append(torch.cat([frame[:count] for frame, count in zip(spread, counts, strict=True)]))
    return features


def _colours_of_groups(groups: list[Float32[Tensor, "point channel"]]) -> list[Float32[np.ndarray, "point 3"]]:
    """One colour space for all sequences, so that equal colours mean equal features."""
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
