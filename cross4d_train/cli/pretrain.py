"""The commands of `cross4d-train` that train: `pretrain`, and `encoders`, which lists what there is to train.

Heavy imports happen inside the commands, so that `--help` answers at once.
"""

from collections.abc import Callable
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cross4d_cache.errors import printable
from cross4d_cache.local import local_path
from cross4d_train.catalogue import COSTS, NUM_FRAMES, NUM_POINTS
from cross4d_train.cli.options import (
    OPTIONS,
    CacheOption,
    DeviceOption,
    FramesOption,
    JsonOption,
    PointsOption,
    ProtocolOption,
    QuietOption,
    StrideOption,
    WorkersOption,
    given_settings,
)

if TYPE_CHECKING:
    from cross4d_train.run import RunResult


def pretrain(
    cache: CacheOption,
    out: Annotated[Path, typer.Option("--out", parser=local_path, help="Folder of the run.")] = Path("run"),
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective",
            help="dense, global, crossvideo, forecast[:field+rollout+consistency], ijepa, mastpre, uni4d, vicreg. (default: dense)",
        ),
    ] = None,
    encoder: Annotated[str | None, typer.Option("--encoder", help="point4d, p4transformer, pstnet. (default: point4d)")] = None,
    size: Annotated[
        str | None, typer.Option("--size", help="Its size: paper, small, mini, tiny, and more, see `encoders`. (default: paper)")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="Pre-train on train, test, unsplit (in no split), train+unsplit, or all. (default: train+unsplit, if there is a split)",
        ),
    ] = None,
    protocol: ProtocolOption = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="By default the recipe of the dataset.")] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", help="Clips a step over all devices; each takes its loss on its share alone. (default: 16)"),
    ] = None,
    frames: FramesOption = None,
    points: PointsOption = None,
    stride: StrideOption = None,
    clips_per_sequence: Annotated[int | None, typer.Option(help="Clips of each sequence an epoch. (default: 1)")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Highest learning rate. (default: 5e-4)")] = None,
    variance_weight: Annotated[float | None, typer.Option(help="Weight of the variance term. (default: 1)")] = None,
    conditioning: Annotated[
        str | None,
        typer.Option(
            "--conditioning",
            help="What is done to targets first: none, center, whiten:K, center-patch, whiten-patch:K. (default: whiten:32)",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Decides weights, clips and points. (default: 0)")] = None,
    workers: WorkersOption = 0,
    device: DeviceOption = "auto",
    devices: Annotated[
        int,
        typer.Option(
            "--devices",
            min=1,
            help="How many devices. It changes the numbers: token mean and variance term are each device's own.",
        ),
    ] = 1,
    init: Annotated[
        Path | None, typer.Option("--init", metavar="CHECKPOINT", help="Begin with the encoder of a checkpoint, not with drawn weights.")
    ] = None,
    save_every: Annotated[
        float | None,
        typer.Option(
            "--save-every", min=0, metavar="MINUTES", show_default=False, help="Save every so often too, not only after each epoch."
        ),
    ] = None,
    keep: Annotated[int, typer.Option("--keep", min=0, help="Keep so many earlier checkpoints, as checkpoint_stepN.safetensors.")] = 0,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Take the settings from the run in --out, which must have been begun; give only what is to grow."),
    ] = False,
    logger: Annotated[
        str, typer.Option("--logger", help="Where the numbers of every step go, besides log.jsonl: tensorboard, csv, wandb or none.")
    ] = "tensorboard",
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Pre-train an encoder on the targets of a store. Settings default to the recipe of the store's dataset.

    The same command resumes a run that was stopped; a larger --epochs lengthens it. SIGTERM and SIGUSR1 finish the step, save, and end
    with exit code 75.
    """
    values = locals()
    from cross4d_cache.console import follow, say, show_json
    from cross4d_train.pretrain import PretrainRequest, Stopped
    from cross4d_train.pretrain import pretrain as pretrain_work
    from cross4d_train.resources import Resources
    from cross4d_train.settings import RunSettings
    from cross4d_train.signals import STOPPED

    options = given_settings(RunSettings, values)
    options.pop("initial", None)  # a file here, and what is recorded of it there
    request = PretrainRequest(
        store=cache, out=out, options=options, initial=init, resume=resume, save_every=save_every, keep=keep, logger=logger
    )
    resources = Resources(device=device, num_devices=devices, num_workers=workers)
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
    frames: Annotated[int, typer.Option("--frames", min=1, help="Frames of the clip that is counted.")] = NUM_FRAMES,
    points: Annotated[int, typer.Option("--points", min=1, help="Points a frame.")] = NUM_POINTS,
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
