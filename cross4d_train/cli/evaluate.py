"""The evaluating commands of `cross4d-train`.

A command lists its options; what they set is read from its `locals()`, in the same way for all of them (`given_settings`). Heavy imports
happen inside the commands, so that `--help` answers at once.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cross4d_cache.usage import parse_pairs
from cross4d_train.cli.options import (
    CLIPS,
    INPUT,
    OPTIONS,
    STUDENT,
    TRAINING,
    CacheOption,
    CheckpointOption,
    DeviceOption,
    EncoderOption,
    EncoderOptionsOption,
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
    given_settings,
    option,
)

if TYPE_CHECKING:
    from cross4d_cache.work import Work
    from cross4d_train.evaluation.base import EvaluationResult
    from cross4d_train.evaluation.transfer import TransferResult
    from cross4d_train.resources import Resources
    from cross4d_train.settings import EncoderSettings


def probe(
    checkpoint: CheckpointOption,
    cache: CacheOption,
    protocol: ProtocolOption = None,
    encoder: EncoderOption = None,
    size: SizeOption = None,
    encoder_option: EncoderOptionsOption = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    windows: WindowsOption = None,
    seed: SeedOption = 0,
    pooling: PoolingOption = "mean",
    epochs: EpochsOption = None,
    lr: RateOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    out: OutOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Linear action probe of a frozen encoder, with standardisation of the features off and on."""
    _evaluate("probe", locals())


def knn(
    checkpoint: CheckpointOption,
    cache: CacheOption,
    protocol: ProtocolOption = None,
    encoder: EncoderOption = None,
    size: SizeOption = None,
    encoder_option: EncoderOptionsOption = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    windows: WindowsOption = None,
    seed: SeedOption = 0,
    pooling: PoolingOption = "mean",
    neighbours: Annotated[int | None, option("--neighbours", TRAINING, "Training clips that vote. (default: 10)", metavar="N")] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    out: OutOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Actions by the nearest training clips of a frozen encoder."""
    _evaluate("knn", locals())


def finetune(
    checkpoint: CheckpointOption,
    cache: CacheOption,
    protocol: ProtocolOption = None,
    encoder: EncoderOption = None,
    size: SizeOption = None,
    encoder_option: EncoderOptionsOption = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    windows: WindowsOption = None,
    seed: SeedOption = 0,
    epochs: EpochsOption = None,
    lr: RateOption = None,
    fraction: Annotated[
        list[float] | None, option("--fraction", TRAINING, "Share of the labels; repeatable. (default: .1, .25, .5 and 1)", metavar="SHARE")
    ] = None,
    test_every: Annotated[
        int | None, option("--test-every", TRAINING, "Epochs between tests on the test videos. (default: 10)", metavar="N")
    ] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    out: OutOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Train encoder and linear head together on part of the labels, once for each fraction."""
    _evaluate("finetune", locals())


def segment(
    checkpoint: CheckpointOption,
    cache: CacheOption,
    protocol: ProtocolOption = None,
    encoder: EncoderOption = None,
    size: SizeOption = None,
    encoder_option: EncoderOptionsOption = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    windows: WindowsOption = None,
    seed: SeedOption = 0,
    epochs: EpochsOption = None,
    lr: RateOption = None,
    end_to_end: Annotated[bool, option("--end-to-end", TRAINING, "Train the encoder too.")] = False,
    ignore: Annotated[
        list[int] | None, option("--ignore", INPUT, "Label that does not count; repeatable. (default: the dataset's own)", metavar="LABEL")
    ] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    out: OutOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Class of every point: a linear head on the frozen encoder, or both trained together."""
    _evaluate("segment", locals())


def segment_actions(
    checkpoint: CheckpointOption,
    cache: CacheOption,
    protocol: ProtocolOption = None,
    encoder: EncoderOption = None,
    size: SizeOption = None,
    encoder_option: EncoderOptionsOption = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    seed: SeedOption = 0,
    epochs: EpochsOption = None,
    lr: RateOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    out: OutOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Action of every frame by a linear head on the frozen encoder: accuracy, edit score, F1 of segments."""
    _evaluate("segment-actions", locals())


def robustness(
    checkpoint: CheckpointOption,
    cache: CacheOption,
    protocol: ProtocolOption = None,
    encoder: EncoderOption = None,
    size: SizeOption = None,
    encoder_option: EncoderOptionsOption = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    windows: WindowsOption = None,
    seed: SeedOption = 0,
    pooling: PoolingOption = "mean",
    epochs: EpochsOption = None,
    lr: RateOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    out: OutOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """The linear probe on test clips with fewer frames, fewer points, or noise."""
    _evaluate("robustness", locals())


def correspondence(
    checkpoint: CheckpointOption,
    cache: CacheOption,
    protocol: ProtocolOption = None,
    encoder: EncoderOption = None,
    size: SizeOption = None,
    encoder_option: EncoderOptionsOption = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    windows: WindowsOption = None,
    seed: SeedOption = 0,
    gap: Annotated[
        list[int] | None, option("--gap", CLIPS, "Frames of the clip between both; repeatable. (default: 8, 15 if they fit)", metavar="N")
    ] = None,
    tolerance: Annotated[
        float | None,
        option(
            "--tolerance", TRAINING, "Largest error of a right match, as a share of the box's diagonal. (default: .02)", metavar="SHARE"
        ),
    ] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    out: OutOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Match points across frames by their features, and compare with true tracks."""
    _evaluate("correspondence", locals())


def transfer(
    checkpoint: Annotated[
        list[str], option("--checkpoint", INPUT, f"Student: {STUDENT}; or `random`. Repeatable, a row each.", metavar="FILE")
    ],
    cache: Annotated[list[str], option("--cache", INPUT, "Store; repeatable, a column each.", metavar="STORE")],
    protocol: ProtocolOption = None,
    encoder: EncoderOption = None,
    size: SizeOption = None,
    encoder_option: EncoderOptionsOption = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    windows: WindowsOption = None,
    seed: SeedOption = 0,
    pooling: PoolingOption = "mean",
    epochs: EpochsOption = None,
    lr: RateOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    out: OutOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """The linear probe of every encoder on every store: a matrix of sources and targets."""
    values = locals()
    from cross4d_train.evaluation.probe import ProbeSettings
    from cross4d_train.evaluation.transfer import TransferRequest, transfer

    options = given_settings(ProbeSettings, values)
    request = TransferRequest(checkpoints=tuple(checkpoint), stores=tuple(cache), encoder=_encoder(values), options=options)
    _follow(transfer(request, _resources(values)), values)


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


def _evaluate(name: str, values: Mapping[str, Any]) -> None:
    """Do an evaluation with the values of the options of its command, and print its result."""
    from cross4d_train.evaluation.evaluate import EVALUATIONS, EvaluationRequest, evaluate

    _, settings = EVALUATIONS[name]
    request = EvaluationRequest(
        evaluation=name,
        checkpoint=values["checkpoint"],
        store=values["cache"],
        encoder=_encoder(values),
        options=given_settings(settings, values),
    )
    _follow(evaluate(request, _resources(values)), values)


def _encoder(values: Mapping[str, Any]) -> "EncoderSettings | None":
    """The untrained encoder that was asked for, or the class of that of a checkpoint, if either was."""
    from cross4d_train.encoders import ENCODERS
    from cross4d_train.settings import EncoderSettings

    name = None if values["encoder"] is None else ENCODERS.name_of(values["encoder"])
    options = parse_pairs(values["encoder_option"], setting="encoder.options") or None
    given = {key: value for key, value in (("name", name), ("size", values["size"]), ("options", options)) if value is not None}
    return EncoderSettings.model_validate(given) if given else None


def _resources(values: Mapping[str, Any]) -> "Resources":
    from cross4d_train.resources import Resources

    return Resources(device=values["device"], num_workers=values["workers"])


def _follow(work: "Work[EvaluationResult | TransferResult]", values: Mapping[str, Any]) -> None:
    """Do the work with its progress shown; the table, or JSON, goes to stdout, and JSON into the file that was asked for."""
    from cross4d_cache.console import follow, show_json
    from cross4d_train.evaluation.evaluate import check_output, write_json

    check_output(values["out"])
    result: EvaluationResult | TransferResult = follow(work, OPTIONS, quiet=values["quiet"])
    if values["out"] is not None:
        write_json(result, values["out"])
    if values["json"]:
        show_json(result)
    else:
        print(result.describe())
