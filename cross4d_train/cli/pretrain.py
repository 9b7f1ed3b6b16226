"""The commands of `cross4d-train` that train: `pretrain`, and `encoders`, which lists what there is to train.

Heavy imports happen inside the commands, so that `--help` answers at once.
"""

from collections.abc import Callable
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cross4d_cache.errors import printable
from cross4d_cache.local import local_path
from cross4d_cache.usage import component
from cross4d_train.catalogue import COSTS, NUM_FRAMES, NUM_POINTS
from cross4d_train.cli.options import (
    CLIPS,
    ENCODER,
    INPUT,
    MACHINE,
    OPTIONS,
    OUTPUT,
    STUDENT,
    TRAINING,
    CacheOption,
    DeviceOption,
    EncoderOptionsOption,
    FramesOption,
    JsonOption,
    PointsOption,
    ProtocolOption,
    QuietOption,
    StrideOption,
    WorkersOption,
    given_settings,
    option,
)

if TYPE_CHECKING:
    from cross4d_train.run import RunResult


OBJECTIVE = "Objective"


def pretrain(
    cache: CacheOption,
    split: Annotated[
        str | None,
        option(
            "--split",
            INPUT,
            "Pre-train on train, test, unsplit (in no split), train+unsplit, or all. (default: train+unsplit, if there is a split)",
            metavar="SIDE",
        ),
    ] = None,
    protocol: ProtocolOption = None,
    init: Annotated[
        str | None, option("--init", INPUT, f"Begin with the encoder of a student, not with drawn weights: {STUDENT}.", metavar="FILE")
    ] = None,
    encoder: Annotated[
        str | None,
        option(
            "--encoder",
            ENCODER,
            "point4d, p4transformer or pstnet; one that is installed, or MODULE:CLASS. (default: point4d)",
            metavar="NAME",
            parser=component,
        ),
    ] = None,
    size: Annotated[
        str | None,
        option("--size", ENCODER, "paper, small, mini, tiny and more, see `encoders`. (default: paper)", metavar="NAME"),
    ] = None,
    encoder_option: EncoderOptionsOption = None,
    objective: Annotated[
        str | None,
        option(
            "--objective",
            OBJECTIVE,
            "dense, global, crossvideo, forecast (and forecast:SWITCH+SWITCH with field, rollout, consistency), ijepa, mastpre, uni4d or"
            " vicreg; one that is installed, or MODULE:CLASS. (default: dense)",
            metavar="NAME",
            parser=component,
        ),
    ] = None,
    conditioning: Annotated[
        str | None,
        option(
            "--conditioning",
            OBJECTIVE,
            "What is done to targets first: none, center, whiten:K, center-patch or whiten-patch:K. (default: whiten:32)",
            metavar="NAME",
        ),
    ] = None,
    variance_weight: Annotated[
        float | None, option("--variance-weight", OBJECTIVE, "Weight of the variance term. (default: 1)", metavar="W")
    ] = None,
    objective_option: Annotated[
        list[str] | None, option("--objective-option", OBJECTIVE, "Option of an objective that has some; repeatable.", metavar="KEY=VALUE")
    ] = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    clips_per_sequence: Annotated[
        int | None, option("--clips-per-sequence", CLIPS, "Clips of each sequence an epoch. (default: 1)", metavar="N")
    ] = None,
    augment: Annotated[
        list[str] | None,
        option(
            "--augment",
            CLIPS,
            "Change clips at random: yaw_degrees, tilt_degrees, scale or jitter_metres; repeatable. (default: nothing)",
            metavar="KEY=VALUE",
        ),
    ] = None,
    epochs: Annotated[int | None, option("--epochs", TRAINING, "By default the recipe of the dataset.", metavar="N")] = None,
    batch_size: Annotated[
        int | None,
        option(
            "--batch-size",
            TRAINING,
            "Clips a step over all devices. (default: 16)",
            metavar="N",
        ),
    ] = None,
    lr: Annotated[float | None, option("--lr", TRAINING, "Highest learning rate. (default: 5e-4)", metavar="RATE")] = None,
    seed: Annotated[int | None, option("--seed", TRAINING, "Decides weights, clips and points. (default: 0)", metavar="N")] = None,
    precision: Annotated[
        str | None,
        option("--precision", TRAINING, "float32 or bfloat16. (default: bfloat16 on CUDA, float32 on a CPU)", metavar="NAME"),
    ] = None,
    deterministic: Annotated[
        bool | None, option("--deterministic", TRAINING, "The same curve every time on a GPU too, at some cost; a CPU always gives it.")
    ] = None,
    device: DeviceOption = "auto",
    devices: Annotated[
        int,
        option(
            "--devices",
            MACHINE,
            "How many devices, of each node. They share each step; its loss is that of one.",
            min=1,
            metavar="N",
        ),
    ] = 1,
    nodes: Annotated[
        int, option("--nodes", MACHINE, "How many nodes, on which srun or torchrun starts this command.", min=1, metavar="M")
    ] = 1,
    workers: WorkersOption = None,
    out: Annotated[Path, option("--out", OUTPUT, "Folder of the run.", parser=local_path, metavar="FOLDER")] = Path("run"),
    resume: Annotated[
        bool,
        option("--resume", OUTPUT, "Take the settings from the run in --out, which must have been begun; give only what is to grow."),
    ] = False,
    save_every: Annotated[
        float | None,
        option("--save-every", OUTPUT, "Save every so often too, not only after each epoch.", min=0, metavar="MINUTES"),
    ] = None,
    keep: Annotated[int, option("--keep", OUTPUT, "Keep so many earlier checkpoints.", min=0, metavar="N")] = 0,
    logger: Annotated[
        str,
        option(
            "--logger",
            OUTPUT,
            "Where the numbers of every step go, besides log.jsonl: tensorboard, csv, wandb or none.",
            metavar="NAME",
        ),
    ] = "tensorboard",
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Pre-train an encoder on the targets of a store. Settings default to the recipe of the store's dataset.

    The same command resumes a run that was stopped; a larger --epochs lengthens it. SIGTERM and SIGUSR1 finish the step, save, and end with
    exit code 75.
    """
    values = locals()
    from cross4d_cache.console import follow, say, show_json
    from cross4d_train.encoders import ENCODERS
    from cross4d_train.objectives import OBJECTIVES
    from cross4d_train.pretrain import PretrainRequest, Stopped
    from cross4d_train.pretrain import pretrain as pretrain_work
    from cross4d_train.resources import Resources
    from cross4d_train.settings import RunSettings
    from cross4d_train.signals import STOPPED

    values |= {
        "encoder": None if encoder is None else ENCODERS.name_of(encoder),
        "objective": None if objective is None else OBJECTIVES.name_of(objective),
    }
    options = given_settings(RunSettings, values)
    options.pop("initial", None)  # a file here, and what is recorded of it there
    request = PretrainRequest(
        store=cache, out=out, options=options, initial=init, resume=resume, save_every=save_every, keep=keep, logger=logger
    )
    resources = Resources(device=device, num_devices=devices, num_nodes=nodes, num_workers=workers)
    try:
        result = follow(pretrain_work(request, resources, heed_signals=True), OPTIONS, quiet=quiet)
    except Stopped as stopped:
        say(f"{stopped}; the same command resumes there")
        raise SystemExit(STOPPED) from None
    if result is None:  # of several processes one talks
        return
    if json:
        show_json(result)
    else:
        print(describe_run(result))


def encoders(
    frames: Annotated[int, option("--frames", CLIPS, "Frames of the clip that is counted.", min=1, metavar="N")] = NUM_FRAMES,
    points: Annotated[int, option("--points", CLIPS, "Points a frame.", min=1, metavar="N")] = NUM_POINTS,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """The encoders in all their sizes: parameters, tokens of a clip, and operations of a forward pass, counted."""
    costs = COSTS
    if (frames, points) != (NUM_FRAMES, NUM_POINTS):
        from cross4d_cache.console import follow
        from cross4d_train.encoders.arithmetic import count_costs

        costs = follow(count_costs(num_frames=frames, num_points=points), OPTIONS, quiet=quiet)
    if json:
        print(dumps([{"encoder": name, "size": size, **asdict(cost)} for (name, size), cost in costs.items()]))
        return
    print(f"{'encoder':14} {'size':10} {'parameters':>12} {'tokens':>7} {'channels':>9} {'GFLOPs':>8} {'with attention':>15}")
    for (name, size), cost in costs.items():
        linear, every = cost.linear_flops / 1e9, (cost.linear_flops + cost.product_flops) / 1e9
        print(f"{name:14} {size:10} {cost.parameters:12,} {cost.tokens:7,} {cost.channels:9,} {linear:8.2f} {every:15.2f}")


COMMANDS: dict[str, Callable[..., None]] = {"pretrain": pretrain, "encoders": encoders}


def describe_run(result: "RunResult") -> str:
    """A finished run in a few lines."""
    lines = [
        f"checkpoint  {result.checkpoint}",
        f"steps       {result.steps}",
        "last epoch  " + ", ".join(f"{name} {value:.4f}" for name, value in {"loss": result.loss, **result.scalars}.items()),
        f"teacher     {_teacher(result.origin.teacher, result.origin.random_teacher)}",
    ]
    return "\n".join(map(printable, lines))


def _teacher(label: str, random_teacher: bool) -> str:
    return f"{label} WITH RANDOM WEIGHTS" if random_teacher else label
