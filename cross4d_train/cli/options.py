"""Options that several commands share, and how the command line calls the settings of requests."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cross4d_cache.local import local_path

if TYPE_CHECKING:
    from cross4d_cache.record import Record

OPTIONS: dict[str, str] = {
    "store": "--cache",
    "checkpoint": "--checkpoint",
    "out": "--out",
    "encoder.name": "--encoder",
    "encoder.size": "--size",
    "clips.num_frames": "--frames",
    "clips.num_points": "--points",
    "clips.stride": "--stride",
    "device": "--device",
    "num_devices": "--devices",
    "num_workers": "--workers",
    # of pre-training
    "objective.name": "--objective",
    "objective.variance_weight": "--variance-weight",
    "objective.conditioning": "--conditioning",
    "training.num_epochs": "--epochs",
    "training.batch_size": "--batch-size",
    "training.clips_per_sequence": "--clips-per-sequence",
    "training.learning_rate": "--lr",
    "training.seed": "--seed",
    "training.side": "--split",
    "training.protocol": "--protocol",
    "initial": "--init",
    "resume": "--resume",
    "save_every": "--save-every",
    "keep": "--keep",
    "logger": "--logger",
    # of evaluations
    "seed": "--seed",
    "protocol": "--protocol",
    "num_windows": "--windows",
    "pooling": "--pooling",
    "head.num_epochs": "--epochs",
    "head.learning_rate": "--lr",
    "head.seed": "--seed",
    "num_epochs": "--epochs",
    "learning_rate": "--lr",
    "num_neighbours": "--neighbours",
    "fractions": "--fraction",
    "test_every": "--test-every",
    "end_to_end": "--end-to-end",
    "ignored": "--ignore",
    "gaps": "--gap",
    "tolerance": "--tolerance",
    # of encoding
    "formats": "--format",
    "limit": "--limit",
    "stride": "--stride",
}
"""The option of every setting that a command takes or a message names."""


def given_settings(settings: "type[Record]", values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model that a command was given, by dotted name, from the values of its options; lists become tuples."""
    found = {name: values.get(option.removeprefix("--").replace("-", "_")) for name, option in OPTIONS.items() if _has(settings, name)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items() if value is not None}


def _has(model: "type[Record]", name: str) -> bool:
    """Whether a model has a setting of this dotted name."""
    first, _, rest = name.partition(".")
    if first not in model.model_fields:
        return False
    inner: Any = model.model_fields[first].annotation
    return not rest or _has(inner, rest)


CacheOption = Annotated[str, typer.Option("--cache", help="Store: folder, zip, or either at http://, https:// or s3://.")]
FramesOption = Annotated[int | None, typer.Option("--frames", help="Frames of a clip.")]
PointsOption = Annotated[int | None, typer.Option("--points", help="Points a frame.")]
StrideOption = Annotated[int | None, typer.Option("--stride", help="Every how many frames one is taken.")]
ProtocolOption = Annotated[
    str | None, typer.Option("--protocol", help="Split protocol; by default the checkpoint's, or the dataset's first.")
]
WorkersOption = Annotated[int, typer.Option("--workers", min=0, help="Loader processes; 0 loads in the main one.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
CheckpointOption = Annotated[str, typer.Option("--checkpoint", help="Checkpoint file, or `random` for an untrained encoder.")]
EncoderOption = Annotated[str | None, typer.Option("--encoder", help="Encoder, with `random`. (default: point4d)")]
SizeOption = Annotated[str | None, typer.Option("--size", help="Size of the encoder, with `random`. (default: paper)")]
SeedOption = Annotated[int, typer.Option("--seed", help="Decides points, head and untrained weights.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Show no progress; notes and errors stay.")]
OutOption = Annotated[Path | None, typer.Option("--out", parser=local_path, help="Also write the result to this file, as JSON.")]
EpochsOption = Annotated[int | None, typer.Option("--epochs", help="Epochs of training the head, or head and encoder.")]
RateOption = Annotated[float | None, typer.Option("--lr", help="Learning rate of that training.")]
PoolingOption = Annotated[str, typer.Option("--pooling", help="How tokens become one feature: mean or mean+max.")]
WindowsOption = Annotated[
    int | None,
    typer.Option("--windows", help="Evenly spaced clips of each video. (default: 5; 3 in finetune, 1 in segment and correspondence)"),
]
