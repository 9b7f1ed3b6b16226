"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from cross4d_cache.local import local_path

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
