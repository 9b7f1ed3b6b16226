"""The main job in a few minutes on a laptop: cache, pre-training, evaluation, picture. `make demo` runs it.

    python -m pipelines.demo [--out out/demo]

Synthetic people and animals, the teacher that comes with the package, the mini student. The encoder is compared with the untrained one
over several seeds; the picture shows one of the runs. Whatever is finished is kept; a second call resumes there.
"""

import argparse
import shlex
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np

from cross4d_cache.build.build import build_store
from cross4d_cache.build.request import BuildRequest, BuildSettings, DatasetRequest
from cross4d_cache.console import follow
from cross4d_cache.errors import user_errors
from cross4d_cache.rendering.again import image_of
from cross4d_cache.store import Cache, open_cache
from cross4d_train.clips import ClipSettings
from cross4d_train.encode import EncodeRequest, encode
from cross4d_train.evaluation.statistics import Spread
from cross4d_train.feature_files import ply
from cross4d_train.features import student_features, teacher_features
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.pretrain import PretrainRequest, pretrain
from cross4d_train.resources import Resources
from cross4d_train.settings import EncoderSettings
from pipelines.experiment.comparison import Budget, Comparison, Row
from pipelines.experiment.table import Finished
from pipelines.experiment.work import OPTIONS, Store
from pipelines.pictures import colours_of_groups, scatter

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DATASET = {"num_humans": "9", "num_animals": "3", "min_frames": "24", "max_frames": "24", "heading_range_degrees": "180"}
BUILD = BuildRequest(dataset=DatasetRequest(options=DATASET), settings=BuildSettings(points_per_frame=1024))
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
    store, trained = Store(path=out / "store.zarr", request=BUILD), out / "run"
    comparison = Comparison(ROWS, {"demo": {"tiny": store}}, BUDGET, reference="dense", root=out)
    with user_errors(OPTIONS):
        show_line(build_line(store.path))
        [built] = comparison.build()
        show_line(pretrain_line(store.path, trained))
        follow(pretrain(pretrain_request(store.path, trained), Resources()), OPTIONS)
        finished = comparison.finished(SEEDS, {row.name: row.learning_rates[0] for row in ROWS})
        draw(open_cache(store.path), trained / "checkpoint.safetensors", out / "demo.png")
        features = encode_own_points(open_cache(store.path), out)
    minutes = (time.perf_counter() - started) / 60
    print(f"store    {built['frames']} frames, {built['bytes'] / 1e6:.0f} MB, {built['visible_share']:.0%} of points visible")
    print(f"teacher  {built['teacher']}, weights {built['weights']}\n")
    print(describe(finished))
    print(f"\npicture  {out / 'demo.png'}")
    print(f"features {features}: of the PLY frames in {out / 'scans'}, by the student of the package; as colours in its .ply files")
    print(f"time     {minutes:.1f} min")


def build_line(store: Path) -> list[str]:
    """The command that builds the demo's store."""
    dataset = [word for name, value in DATASET.items() for word in ("--option", f"{name}={value}")]
    return ["cross4d-cache", "build", *dataset, "--points", str(BUILD.settings.points_per_frame), "--out", str(store)]


def pretrain_line(store: Path, out: Path) -> list[str]:
    """The command that trains the student of the picture."""
    clips, rate = BUDGET.clips, ROWS[1].learning_rates[0]
    chosen = {
        "size": BUDGET.encoder.size,
        "frames": clips.num_frames,
        "points": clips.num_points,
        "stride": clips.stride,
        "epochs": BUDGET.num_epochs,
        "clips-per-sequence": BUDGET.clips_per_sequence,
        "lr": rate,
    }
    options = [word for name, value in chosen.items() for word in (f"--{name}", str(value))]
    return ["cross4d-train", "pretrain", "--cache", str(store), "--out", str(out), *options]


def pretrain_request(store: Path, out: Path) -> PretrainRequest:
    """What that command asks for."""
    options = {
        "encoder.size": BUDGET.encoder.size,
        **{f"clips.{name}": value for name, value in BUDGET.clips.model_dump().items()},
        "training.num_epochs": BUDGET.num_epochs,
        "training.clips_per_sequence": BUDGET.clips_per_sequence,
        "training.learning_rate": ROWS[1].learning_rates[0],
    }
    return PretrainRequest(store=str(store), out=out, options=options)


def encode_own_points(cache: Cache, out: Path) -> Path:
    """Features of every point of a folder of PLY frames, as a user would have one, by the student that comes with the package."""
    scans, features = out / "scans", out / "features"
    for id in PICTURED[:2]:
        (scans / id).mkdir(parents=True, exist_ok=True)
        for number, points in enumerate(cache.points([info.id for info in cache.sequences].index(id))):
            (scans / id / f"{number:04d}.ply").write_bytes(ply(points, np.full_like(points, 0.5)))
    show_line(["cross4d-train", "encode", "--checkpoint", "bodies", "--data", str(scans), "--out", str(features)])
    store = features.with_name("features.zarr")
    follow(build_store(BuildRequest.of_files(scans), store), OPTIONS)
    follow(encode(EncodeRequest(checkpoint="bodies", store=str(store), out=features), Resources()), OPTIONS)
    return features


def show_line(words: list[str]) -> None:
    """A line that a user would type for what follows."""
    print(f"\n$ {shlex.join(words)}", file=sys.stderr, flush=True)


def describe(finished: Finished) -> str:
    """Means with 95 % intervals over seeds, and whether the difference, paired by seed, is one."""
    lines = [f"test subjects never seen; {SEEDS} seeds; linear probes on frozen features: video accuracy, mean IoU of parts"]
    lines.append(f"{'encoder':12}" + "".join(f"{title:>24}" for title in COLUMNS.values()))
    for row in ROWS:
        lines.append(f"{row.name:12}" + "".join(f"{_interval(finished.found[row.name, column].spread):>24}" for column in COLUMNS))
    tests = {item.ours[1]: item.p for item in finished.differences}
    lines.append(f"{'paired t, p':12}" + "".join(f"{tests[column]:>24.4f}" for column in COLUMNS))
    return "\n".join(lines)


def _interval(values: Spread) -> str:
    return f"{values.mean:.3f} [{values.low:.3f}, {values.high:.3f}]"


def draw(cache: Cache, checkpoint: Path, path: Path) -> None:
    """One row a sequence: points, render, and as colours the targets, what the student predicts of them, and its own features.

    Targets and predictions share one colour space, so that equal colours mean equal features.
    """
    ids = [info.id for info in cache.sequences]
    rows = [name for name in PICTURED if name in ids]
    clips = [cache.read_clip(ids.index(name), np.arange(0, cache.sequences[ids.index(name)].num_frames, 3)) for name in rows]
    targets = [teacher_features(clip) for clip in clips]
    predicted, own = student_features(clips, checkpoint)
    shared = colours_of_groups(targets + predicted)
    columns = {
        f"teacher ({cache.manifest.teacher.name})": shared[: len(rows)],
        "student's prediction": shared[len(rows) :],
        "student's own features": colours_of_groups(own),
    }
    figure, axes = plt.subplots(len(rows), 5, figsize=(15, 3.1 * len(rows)), squeeze=False)
    for row, (name, clip) in enumerate(zip(rows, clips, strict=True)):
        frame = len(clip.frames) // 2
        span = slice(clip.point_offsets[frame], clip.point_offsets[frame + 1])
        points, seen = clip.points[span], (clip.rows[span] >= 0).any(axis=1)
        scatter(axes[row, 0], points, points[:, 2])
        axes[row, 1].imshow(image_of(cache, ids.index(name), int(clip.frames[frame])), cmap="gray", vmin=0, vmax=1)
        for axis, (title, colours) in zip(axes[row, 2:], columns.items(), strict=True):
            shown = colours[row][span].copy()
            if title.startswith("teacher"):
                shown[~seen] = 0.85
            scatter(axis, points, shown)
        axes[row, 0].set_ylabel(name.removesuffix("_r00"))
    for axis, title in zip(axes[0], ("input points (colour: depth)", "render", *columns), strict=True):
        axis.set_title(title)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
