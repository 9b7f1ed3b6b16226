"""Options that several commands share, and how the command line calls the settings of requests."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cross4d_cache.local import local_path
from cross4d_cache.usage import component, parse_pairs, worker_count

if TYPE_CHECKING:
    from cross4d_cache.record import Record

OPTIONS: dict[str, str] = {
    "store": "--cache",
    "checkpoint": "--checkpoint",
    "dataset.root": "--data",
    "dataset.options": "--option",
    "exclude": "--exclude",
    "out": "--out",
    "encoder.name": "--encoder",
    "encoder.size": "--size",
    "encoder.options": "--encoder-option",
    "clips.num_frames": "--frames",
    "clips.num_points": "--points",
    "clips.stride": "--stride",
    "device": "--device",
    "num_devices": "--devices",
    "num_nodes": "--nodes",
    "num_workers": "--workers",
    # of pre-training
    "objective.name": "--objective",
    "objective.variance_weight": "--variance-weight",
    "objective.conditioning": "--conditioning",
    "objective.options": "--objective-option",
    "augmentation": "--augment",
    "training.num_epochs": "--epochs",
    "training.batch_size": "--batch-size",
    "training.clips_per_sequence": "--clips-per-sequence",
    "training.learning_rate": "--lr",
    "training.seed": "--seed",
    "training.precision": "--precision",
    "training.deterministic": "--deterministic",
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
    # of exporting
    "results": "--results",
    "license": "--license",
    "notes": "--notes",
}
"""The option of every setting that a command takes or a message names."""


def given_settings(settings: "type[Record]", values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model that a command was given, by dotted name, from the values of its options; lists become tuples, and of
    KEY=VALUE a mapping."""
    found = {name: values.get(option.removeprefix("--").replace("-", "_")) for name, option in OPTIONS.items() if _has(settings, name)}
    return {name: _value(name, value) for name, value in found.items() if value is not None}


def _value(name: str, value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return parse_pairs(value, setting=name) if name.endswith(".options") or name == "augmentation" else tuple(value)


def _has(model: "type[Record]", name: str) -> bool:
    """Whether a model has a setting of this dotted name."""
    first, _, rest = name.partition(".")
    if first not in model.model_fields:
        return False
    inner: Any = model.model_fields[first].annotation
    return not rest or _has(inner, rest)


INPUT, CLIPS, ENCODER, TRAINING, MACHINE, OUTPUT = "Input", "Clips", "Encoder", "Training", "Machine", "Output"
"""Groups of options, as help shows them."""


def option(name: str, group: str, text: str, **how: Any) -> Any:
    """An option of a group, with its line of help."""
    return typer.Option(name, rich_help_panel=group, help=text, **how)


CacheOption = Annotated[str, option("--cache", INPUT, "Store: folder, zip, or either at http://, https:// or s3://.", metavar="STORE")]
STUDENT = "a run's folder, its checkpoint, an exported folder or zip, an http(s) address, or on the hub OWNER/NAME or OWNER/NAME@REVISION"
"""Where a trained student may lie."""
CheckpointOption = Annotated[
    str, option("--checkpoint", INPUT, f"Student: {STUDENT}; or `random` for an untrained encoder.", metavar="FILE")
]
ProtocolOption = Annotated[
    str | None,
    option("--protocol", INPUT, "Split protocol; by default the checkpoint's, or the dataset's first.", metavar="NAME"),
]
EncoderOption = Annotated[
    str | None,
    option(
        "--encoder",
        ENCODER,
        "Encoder, with `random` (default: point4d); or MODULE:CLASS, that of the checkpoint, where it is not installed.",
        metavar="NAME",
        parser=component,
    ),
]
SizeOption = Annotated[str | None, option("--size", ENCODER, "Size of the encoder, with `random`. (default: paper)", metavar="NAME")]
EncoderClassOption = Annotated[
    str | None,
    option("--encoder", ENCODER, "The class of its encoder, where it is not installed.", metavar="MODULE:CLASS", parser=component),
]
EncoderOptionsOption = Annotated[
    list[str] | None,
    option("--encoder-option", ENCODER, "Setting of the encoder in place of that of its size; repeatable.", metavar="KEY=VALUE"),
]
FramesOption = Annotated[int | None, option("--frames", CLIPS, "Frames of a clip.", metavar="N")]
PointsOption = Annotated[int | None, option("--points", CLIPS, "Points a frame.", metavar="N")]
StrideOption = Annotated[int | None, option("--stride", CLIPS, "Take every N-th frame of a sequence.", metavar="N")]
WindowsOption = Annotated[
    int | None,
    option(
        "--windows",
        CLIPS,
        "Evenly spaced clips of each video. (default: 5; 3 in finetune, 1 in segment and correspondence)",
        metavar="N",
    ),
]
SeedOption = Annotated[int, option("--seed", TRAINING, "Decides points, head and untrained weights.", metavar="N")]
EpochsOption = Annotated[int | None, option("--epochs", TRAINING, "Epochs of training the head, or head and encoder.", metavar="N")]
RateOption = Annotated[float | None, option("--lr", TRAINING, "Learning rate of that training.", metavar="RATE")]
PoolingOption = Annotated[str, option("--pooling", TRAINING, "How tokens become one feature: mean or mean+max.", metavar="NAME")]
DeviceOption = Annotated[str, option("--device", MACHINE, "auto, cpu, cuda or cuda:N.", metavar="NAME")]
WorkersOption = Annotated[
    int | None,
    option(
        "--workers",
        MACHINE,
        "Loader processes, 0: load in the main process; default: auto, as many as help.",
        parser=worker_count,
        metavar="N",
    ),
]
OutOption = Annotated[
    Path | None,
    option("--out", OUTPUT, "Also write the result to this file, as JSON.", parser=local_path, metavar="FILE"),
]
QuietOption = Annotated[bool, option("--quiet", OUTPUT, "Show no progress; notes and errors stay.")]
JsonOption = Annotated[bool, option("--json", OUTPUT, "Print the result as one JSON object.")]
