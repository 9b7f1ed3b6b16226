"""The evaluating commands of `cross4d-train`.

Heavy imports happen inside the commands, so that `--help` answers at once.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from cross4d_train.cli.options import (
    CacheOption,
    CheckpointOption,
    DeviceOption,
    EncoderOption,
    EpochsOption,
    FramesOption,
    JsonOption,
    OutOption,
    PointsOption,
    PoolingOption,
    ProtocolOption,
    QuietOption,
    RateOption,
    SeedOption,
    SizeOption,
    StrideOption,
    WindowsOption,
    WorkersOption,
)


def probe(
    checkpoint: CheckpointOption,
    cache: CacheOption,
    encoder: EncoderOption = None,
    size: SizeOption = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    windows: WindowsOption = None,
    protocol: ProtocolOption = None,
    seed: SeedOption = 0,
    pooling: PoolingOption = "mean",
    epochs: EpochsOption = None,
    lr: RateOption = None,
    workers: WorkersOption = 0,
    device: DeviceOption = "auto",
    out: OutOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Linear action probe of a frozen encoder, with standardisation of the features off and on."""
    _evaluate(
        "probe",
        checkpoint,
        cache,
        _shared(frames, points, stride, protocol, seed)
        | {"num_windows": windows, "pooling": pooling, "head.num_epochs": epochs, "head.learning_rate": lr, "head.seed": seed},
        request=(encoder, size, device, workers, quiet, json, out),
    )


def knn(
    checkpoint: CheckpointOption,
    cache: CacheOption,
    encoder: EncoderOption = None,
    size: SizeOption = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    windows: WindowsOption = None,
    protocol: ProtocolOption = None,
    seed: SeedOption = 0,
    pooling: PoolingOption = "mean",
    neighbours: Annotated[int | None, typer.Option("--neighbours", help="Training clips that vote. (default: 10)")] = None,
    workers: WorkersOption = 0,
    device: DeviceOption = "auto",
    out: OutOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Actions by the nearest training clips of a frozen encoder."""
    _evaluate(
        "knn",
        checkpoint,
        cache,
        _shared(frames, points, stride, protocol, seed) | {"num_windows": windows, "pooling": pooling, "num_neighbours": neighbours},
        request=(encoder, size, device, workers, quiet, json, out),
    )


def finetune(
    checkpoint: CheckpointOption,
    cache: CacheOption,
    encoder: EncoderOption = None,
    size: SizeOption = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    windows: WindowsOption = None,
    protocol: ProtocolOption = None,
    seed: SeedOption = 0,
    epochs: EpochsOption = None,
    lr: RateOption = None,
    fraction: Annotated[
        list[float] | None, typer.Option("--fraction", help="Share of the labels; repeatable. (default: .1, .25, .5 and 1)")
    ] = None,
    test_every: Annotated[int | None, typer.Option(help="Epochs between looks at the test videos. (default: 10)")] = None,
    workers: WorkersOption = 0,
    device: DeviceOption = "auto",
    out: OutOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Train encoder and linear head together on part of the labels, once for each fraction."""
    _evaluate(
        "finetune",
        checkpoint,
        cache,
        _shared(frames, points, stride, protocol, seed)
        | {"num_windows": windows, "num_epochs": epochs, "learning_rate": lr, "fractions": fraction, "test_every": test_every},
        request=(encoder, size, device, workers, quiet, json, out),
    )


def segment(
    checkpoint: CheckpointOption,
    cache: CacheOption,
    encoder: EncoderOption = None,
    size: SizeOption = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    windows: WindowsOption = None,
    protocol: ProtocolOption = None,
    seed: SeedOption = 0,
    epochs: EpochsOption = None,
    lr: RateOption = None,
    end_to_end: Annotated[bool, typer.Option("--end-to-end", help="Train the encoder too.")] = False,
    ignore: Annotated[
        list[int] | None, typer.Option("--ignore", help="Label that does not count; repeatable. (default: the dataset's own)")
    ] = None,
    workers: WorkersOption = 0,
    device: DeviceOption = "auto",
    out: OutOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Class of every point: a linear head on the frozen encoder, or both trained together."""
    _evaluate(
        "segment",
        checkpoint,
        cache,
        _shared(frames, points, stride, protocol, seed)
        | {"num_windows": windows, "num_epochs": epochs, "learning_rate": lr, "end_to_end": end_to_end, "ignored": ignore},
        request=(encoder, size, device, workers, quiet, json, out),
    )


def segment_actions(
    checkpoint: CheckpointOption,
    cache: CacheOption,
    encoder: EncoderOption = None,
    size: SizeOption = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    protocol: ProtocolOption = None,
    seed: SeedOption = 0,
    epochs: EpochsOption = None,
    lr: RateOption = None,
    workers: WorkersOption = 0,
    device: DeviceOption = "auto",
    out: OutOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Action of every frame by a linear head on the frozen encoder: accuracy, edit score, F1 of segments."""
    _evaluate(
        "segment-actions",
        checkpoint,
        cache,
        _shared(frames, points, stride, protocol, seed) | {"num_epochs": epochs, "learning_rate": lr},
        request=(encoder, size, device, workers, quiet, json, out),
    )


def robustness(
    checkpoint: CheckpointOption,
    cache: CacheOption,
    encoder: EncoderOption = None,
    size: SizeOption = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    windows: WindowsOption = None,
    protocol: ProtocolOption = None,
    seed: SeedOption = 0,
    pooling: PoolingOption = "mean",
    epochs: EpochsOption = None,
    lr: RateOption = None,
    workers: WorkersOption = 0,
    device: DeviceOption = "auto",
    out: OutOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """The linear probe on test clips with fewer frames, fewer points, or noise."""
    _evaluate(
        "robustness",
        checkpoint,
        cache,
        _shared(frames, points, stride, protocol, seed)
        | {"num_windows": windows, "pooling": pooling, "head.num_epochs": epochs, "head.learning_rate": lr, "head.seed": seed},
        request=(encoder, size, device, workers, quiet, json, out),
    )


def correspondence(
    checkpoint: CheckpointOption,
    cache: CacheOption,
    encoder: EncoderOption = None,
    size: SizeOption = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    windows: WindowsOption = None,
    protocol: ProtocolOption = None,
    seed: SeedOption = 0,
    gap: Annotated[
        list[int] | None, typer.Option("--gap", help="Frames of the clip between both; repeatable. (default: 8, 15 if they fit)")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option("--tolerance", help="How far off is right, as a share of the bounding box's diagonal. (default: .02)")
    ] = None,
    workers: WorkersOption = 0,
    device: DeviceOption = "auto",
    out: OutOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Match points across frames by their features, and compare with true tracks."""
    _evaluate(
        "correspondence",
        checkpoint,
        cache,
        _shared(frames, points, stride, protocol, seed) | {"num_windows": windows, "gaps": gap, "tolerance": tolerance},
        request=(encoder, size, device, workers, quiet, json, out),
    )


def transfer(
    checkpoint: Annotated[list[str], typer.Option("--checkpoint", help="Checkpoint file, or `random`; repeatable, a row each.")],
    cache: Annotated[list[str], typer.Option("--cache", help="Store; repeatable, a column each.")],
    encoder: EncoderOption = None,
    size: SizeOption = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    windows: WindowsOption = None,
    protocol: ProtocolOption = None,
    seed: SeedOption = 0,
    pooling: PoolingOption = "mean",
    epochs: EpochsOption = None,
    lr: RateOption = None,
    workers: WorkersOption = 0,
    device: DeviceOption = "auto",
    out: OutOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """The linear probe of every encoder on every store: a matrix of sources and targets."""
    from cross4d_train.cli.judge import Request, run_transfer

    options = _shared(frames, points, stride, protocol, seed)
    options |= {"num_windows": windows, "pooling": pooling, "head.num_epochs": epochs, "head.learning_rate": lr, "head.seed": seed}
    request = Request(encoder=encoder, size=size, device=device, num_workers=workers, quiet=quiet, as_json=json, out=out)
    run_transfer(checkpoint, cache, _given(options), request)


COMMANDS: dict[str, Callable[..., None]] = {
    "probe": probe,
    "knn": knn,
    "finetune": finetune,
    "segment": segment,
    "segment-actions": segment_actions,
    "robustness": robustness,
    "correspondence": correspondence,
    "transfer": transfer,
}


def _shared(frames: int | None, points: int | None, stride: int | None, protocol: str | None, seed: int) -> dict[str, object]:
    clips = {"clips.num_frames": frames, "clips.num_points": points, "clips.stride": stride}
    return {**clips, "protocol": protocol, "seed": seed}


def _given(options: Mapping[str, object]) -> dict[str, object]:
    """Options that the user named; lists become what settings hold."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items() if value is not None}


def _evaluate(
    name: str,
    checkpoint: str,
    cache: str,
    options: Mapping[str, object],
    *,
    request: tuple[str | None, str | None, str, int, bool, bool, Path | None],
) -> None:
    from cross4d_train.cli.judge import Request, run_evaluation

    encoder, size, device, workers, quiet, json, out = request
    run_evaluation(
        name,
        checkpoint,
        cache,
        _given(options),
        Request(encoder=encoder, size=size, device=device, num_workers=workers, quiet=quiet, as_json=json, out=out),
    )
