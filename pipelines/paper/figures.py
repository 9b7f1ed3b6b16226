"""The paper's figures, of students of seed 0: features of points as colours, segmentations, label efficiency, and what the teacher saw."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float32, Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cross4d_cache.rendering.again import image_of
from cross4d_cache.store import Cache, open_cache
from cross4d_cache.types import CachedClip
from cross4d_train.checkpoint import load_checkpoint, load_encoder
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.evaluation.evaluate import prepare
from cross4d_train.evaluation.segment import Segmentation
from cross4d_train.features import encoder_features, teacher_features
from cross4d_train.resources import Resources
from pipelines.experiment.table import Finished
from pipelines.experiment.work import Student
from pipelines.paper.benchmark import DENSE, GLOBAL, UNTRAINED, Setup
from pipelines.pictures import colours_of_groups, scatter

FIGURES = {
    2: "features of points as colours",
    3: "dense features across datasets",
    4: "segmentation by a linear head a point",
    5: "colours over time",
    6: "label efficiency",
    7: "what the teacher sees, its patches, and the targets of points",
    8: "features of points as colours, more sequences",
}


def draw_figure(number: int, setup: Setup, others: Sequence[Setup], finished: Sequence[Finished], path: Path) -> None:
    """One figure as PNG; figure 6 shows table 4, which has to be among the finished ones."""
    drawings: dict[int, Callable[[], Figure]] = {
        2: lambda: _features(setup, 3),
        3: lambda: _domains((setup, *others)),
        4: lambda: _segmentation(setup),
        5: lambda: _over_time(setup),
        6: lambda: _labels(finished),
        7: lambda: _teacher(setup),
        8: lambda: _features(setup, 8),
    }
    figure = drawings[number]()
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def load(student: Student, setup: Setup) -> Encoder:
    """The encoder of a student."""
    if student.settings is None:
        return setup.scale.encoder.build(student.seed).eval()
    return load_encoder(load_checkpoint(Path(student.checkpoint))).eval()


def chosen_clips(setup: Setup, count: int) -> tuple[list[str], list[CachedClip]]:
    """Clips of test sequences of different actions, in the middle of each; names and clips."""
    cache, clips = open_cache(setup.store().path), setup.scale.clips
    test = [index for index, info in enumerate(cache.sequences) if info.splits.get(str(setup.protocol)) == "test"]
    first_of_action = {cache.sequences[index].action: index for index in reversed(test)}
    indices = sorted(first_of_action.values())
    picked = [indices[place] for place in np.unique(np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(np.int64))]
    found = [
        cache.read_clip(index, clips.frames(info, (clips.windows(info) - 1) // 2), labels=True)
        for index in picked
        if (info := cache.sequences[index])
    ]
    return [cache.sequences[index].id for index in picked], found


def middle(clip: CachedClip) -> slice:
    """The points of its middle frame."""
    return frame_of(clip, len(clip.frames) // 2)


def frame_of(clip: CachedClip, frame: int) -> slice:
    """The points of one frame."""
    return slice(int(clip.point_offsets[frame]), int(clip.point_offsets[frame + 1]))


def _grid(rows: Sequence[str], columns: Sequence[str]) -> tuple[Figure, list[list[Axes]]]:
    figure, axes = plt.subplots(len(rows), len(columns), figsize=(2.4 * len(columns), 2.5 * len(rows)), squeeze=False)
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=9)
    for row, name in zip(axes, rows, strict=True):
        row[0].set_ylabel(name, fontsize=7)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.set_adjustable("datalim")  # equal boxes for tall and for wide bodies
    return figure, [list(row) for row in axes]


def _methods(setup: Setup) -> dict[str, Encoder]:
    students = {DENSE: setup.dense(), GLOBAL: setup.distilled_globally(), UNTRAINED: setup.untrained()}
    return {name: load(student, setup) for name, student in students.items()}


def _features(setup: Setup, count: int) -> Figure:
    """Each method has a colour space of its own, shared by all sequences: equal colours are equal features."""
    names, clips = chosen_clips(setup, count)
    methods = _methods(setup)
    figure, axes = _grid(names, ("points (colour: depth)", *methods))
    colours = {name: colours_of_groups([encoder_features(encoder, clip) for clip in clips]) for name, encoder in methods.items()}
    for row, clip in enumerate(clips):
        span = middle(clip)
        scatter(axes[row][0], clip.points[span], clip.points[span][:, 2])
        for column, name in enumerate(methods, start=1):
            scatter(axes[row][column], clip.points[span], colours[name][row][span])
    return figure


def _domains(setups: Sequence[Setup]) -> Figure:
    """Rows are datasets; in each the dense encoder pre-trained on it, and a colour space of its own."""
    count = 4
    figure, axes = _grid([setup.benchmark.name for setup in setups], [""] * count)
    for row, setup in enumerate(setups):
        _, clips = chosen_clips(setup, count)
        encoder = load(setup.dense(), setup)
        colours = colours_of_groups([encoder_features(encoder, clip) for clip in clips])
        for column, clip in enumerate(clips):
            scatter(axes[row][column], clip.points[middle(clip)], colours[column][middle(clip)])
    return figure


def _over_time(setup: Setup) -> Figure:
    """One colour space a method, through all frames of the clip: a stable part keeps its colour."""
    names, clips = chosen_clips(setup, 1)
    clip, methods = clips[0], _methods(setup)
    frames = np.unique(np.linspace(0, len(clip.frames) - 1, 6).round().astype(np.int64))
    figure, axes = _grid([f"{name}\n{names[0]}" for name in methods], [f"frame {clip.frames[frame]}" for frame in frames])
    for row, encoder in enumerate(methods.values()):
        (colours,) = colours_of_groups([encoder_features(encoder, clip)])
        for column, frame in enumerate(frames):
            span = frame_of(clip, int(frame))
            scatter(axes[row][column], clip.points[span], colours[span])
    return figure


def _segmentation(setup: Setup) -> Figure:
    """Predicted and true parts of test frames; points without a label that counts are grey."""
    names, clips = chosen_clips(setup, 4)
    predicted: dict[str, list[Int64[np.ndarray, " point"]]] = {}
    for name, student in ((DENSE, setup.dense()), (UNTRAINED, setup.untrained())):
        run = setup.judge("segment", student, {"num_epochs": setup.scale.segment_epochs}).with_seed(0)
        evaluation = prepare(run.request)
        assert isinstance(evaluation, Segmentation)
        for _ in evaluation.run(Resources(device="cpu")):
            pass
        predicted[name] = [_predict_parts(evaluation, clip) for clip in clips]
    figure, axes = _grid(names, ("truth", *predicted))
    palette = plt.get_cmap("tab20")
    for row, clip in enumerate(clips):
        span = middle(clip)
        assert clip.part_labels is not None
        labels = {"truth": clip.part_labels[span].astype(np.int64)} | {name: found[row] for name, found in predicted.items()}
        for column, parts in enumerate(labels.values()):
            colours = palette(parts % 20)
            colours[parts >= len(open_cache(setup.store().path).manifest.dataset.part_names)] = 0.85
            scatter(axes[row][column], clip.points[span], colours)
    return figure


def _predict_parts(evaluation: Segmentation, clip: CachedClip) -> Int64[np.ndarray, " point"]:
    """Labels of all stored points of the clip's middle frame."""
    counts = np.diff(clip.point_offsets)
    padded = [
        np.resize(np.arange(start, start + count), int(counts.max())) for start, count in zip(clip.point_offsets, counts, strict=False)
    ]
    found = evaluation.predict(torch.from_numpy(clip.points[np.stack(padded)])[None])[0]
    frame = len(clip.frames) // 2
    return found[frame, : counts[frame]].numpy()


def _labels(finished: Sequence[Finished]) -> Figure:
    """Accuracy by share of labels with the deviation over seeds: last epoch, and dashed what the paper prints."""
    item = next(item for item in finished if item.table.number == 4)
    shares = [float(column.removesuffix("%")) for column in item.table.columns]
    figure, axis = plt.subplots(figsize=(5.5, 4))
    for name in (DENSE, GLOBAL, UNTRAINED):
        found = [item.found[name, column] for column in item.table.columns]
        line = axis.errorbar(
            shares, [cell.spread.mean for cell in found], [cell.spread.std for cell in found], marker="o", capsize=3, label=name
        )
        if all(cell.published is not None for cell in found):
            axis.plot(shares, [float(cell.published or 0) for cell in found], "--", color=line[0].get_color(), lw=1, label=f"{name}, paper")
    axis.set(xlabel="labels, %", ylabel="video accuracy, last epoch", xscale="log", ylim=(0, 1))
    axis.set_xticks(shares, [f"{share:g}" for share in shares])
    axis.minorticks_off()
    axis.legend(fontsize=8)
    return figure


def _teacher(setup: Setup) -> Figure:
    """Image, patch features and targets of points; the last two share one colour space."""
    cache = open_cache(setup.store().path)
    names, clips = chosen_clips(setup, 4)
    ids = [info.id for info in cache.sequences]
    figure, axes = _grid(names, ("points (colour: depth)", "image", "patches that points hit", "targets of points"))
    maps = [patch_map(cache, clip) for clip in clips]
    targets = [teacher_features(clip) for clip in clips]
    colours = colours_of_groups([*targets, *(features for _, features in maps)])
    for row, (name, clip, (places, _)) in enumerate(zip(names, clips, maps, strict=True)):
        span, frame = middle(clip), len(clip.frames) // 2
        scatter(axes[row][0], clip.points[span], clip.points[span][:, 2])
        for axis in axes[row][1:3]:
            axis.set_adjustable("box")
        axes[row][1].imshow(image_of(cache, ids.index(name), int(clip.frames[frame])), cmap="gray", vmin=0, vmax=1)
        side = cache.manifest.teacher.patches_per_side
        shown = np.full((side * side, 3), 1.0)
        shown[places] = colours[len(clips) + row]
        axes[row][2].imshow(shown.reshape(side, side, 3))
        own = colours[row][span].copy()
        own[(clip.rows[span] < 0).all(axis=1)] = 0.85
        scatter(axes[row][3], clip.points[span], own)
    return figure


def patch_map(cache: Cache, clip: CachedClip) -> tuple[Int64[np.ndarray, " patch"], Float32[Tensor, "patch channel"]]:
    """The patches of the first view that points of the middle frame hit, and their features."""
    rows = clip.rows[middle(clip), 0]
    used = np.unique(rows[rows >= 0])
    places = clip.patches[used].astype(np.int64) % cache.manifest.teacher.num_patches
    return places, torch.from_numpy(clip.features[used].astype(np.float32))
