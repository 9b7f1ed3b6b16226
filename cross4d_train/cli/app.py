"""The command `cross4d-train`: pre-train an encoder on a store, and evaluate it.

Heavy imports happen inside the commands, so that `--help` answers at once.
"""

import math
from pathlib import Path
from typing import Annotated

import typer

from cross4d_cache.errors import user_errors
from cross4d_cache.local import local_path
from cross4d_cache.usage import Commands
from cross4d_train.cli.evaluate import COMMANDS
from cross4d_train.cli.options import (
    CacheOption,
    DeviceOption,
    FramesOption,
    JsonOption,
    PointsOption,
    ProtocolOption,
    QuietOption,
    StrideOption,
    WorkersOption,
)

app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command()
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
        float,
        typer.Option(
            "--save-every", min=0, metavar="MINUTES", show_default=False, help="Save every so often too, not only after each epoch."
        ),
    ] = math.inf,
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
    from cross4d_train.cli.pretrain import run_pretrain

    options = {
        "encoder.name": encoder,
        "encoder.size": size,
        "objective.name": objective,
        "objective.variance_weight": variance_weight,
        "objective.conditioning": conditioning,
        "clips.num_frames": frames,
        "clips.num_points": points,
        "clips.stride": stride,
        "training.num_epochs": epochs,
        "training.batch_size": batch_size,
        "training.clips_per_sequence": clips_per_sequence,
        "training.learning_rate": lr,
        "training.seed": seed,
        "training.side": split,
        "training.protocol": protocol,
    }
    run_pretrain(
        cache,
        out,
        {name: value for name, value in options.items() if value is not None},
        initial=init,
        resume=resume,
        save_every=save_every,
        keep=keep,
        device=device,
        num_devices=devices,
        num_workers=workers,
        logger=logger,
        quiet=quiet,
        as_json=json,
    )


@app.command()
def encoders(
    frames: Annotated[int, typer.Option("--frames", min=1, help="Frames of the clip that is counted.")] = 24,
    points: Annotated[int, typer.Option("--points", min=1, help="Points a frame.")] = 2048,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """The encoders in all their sizes: parameters, tokens of a clip, and operations of a forward pass, counted."""
    from cross4d_train.cli.pretrain import run_encoders

    run_encoders(num_frames=frames, num_points=points, quiet=quiet, as_json=json)


for name, command in COMMANDS.items():
    app.command(name)(command)


def main() -> None:
    """Entry point: user errors become one message and exit code 2."""
    with user_errors():
        app()
