"""What the commands of `cross4d-train` do: settle the settings, run with a progress bar, print the result."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from cross4d_cache.errors import CheckpointError, SettingsError
from cross4d_cache.progress import progress
from cross4d_cache.store import open_cache
from cross4d_train.advice import on_device
from cross4d_train.checkpoint import Checkpoint
from cross4d_train.clips import count_sides
from cross4d_train.console import note_newer, say, warn_random_teacher
from cross4d_train.encoders import ENCODERS, outline_encoder
from cross4d_train.encoders.arithmetic import count_cost
from cross4d_train.loop import Pretraining, make_fabric
from cross4d_train.objectives import OBJECTIVES
from cross4d_train.objectives.distillation import Distillation
from cross4d_train.run import RunFolder, RunResult
from cross4d_train.settings import RunSettings


def run_pretrain(
    store: Path | str,
    out: Path,
    options: Mapping[str, object],
    *,
    resume: bool,
    device: str,
    num_devices: int,
    num_workers: int,
    logger: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """`cross4d-train pretrain`."""
    manifest = open_cache(store).manifest
    note_newer(manifest, str(store))
    fabric = make_fabric(device, num_devices)
    folder = RunFolder(out, resume=resume, logger=logger)
    checkpoint = folder.load() if resume else None
    if checkpoint is not None:
        note_newer(checkpoint.record, str(folder.checkpoint_path))
    settings = settle(RunSettings.for_cache(manifest), options, checkpoint)
    _check_teacher_options(settings, options)
    fabric.launch()
    training = Pretraining(store, settings, fabric, num_workers=num_workers, checkpoint=checkpoint)
    leads = fabric.is_global_zero  # of several processes one talks
    if leads:
        _announce(training, resume=resume, resumed=checkpoint is not None)
    advice = on_device(fabric.device, None if resume else settings) if leads else None
    steps, total = folder.record(training), training.plan.num_steps
    for record, shown in progress(steps, total=total, initial=training.step, unit="step", quiet=quiet or not leads, advice=advice):
        scalars = {"loss": record.loss, **record.scalars}
        shown.note = ", ".join(f"{name}={value:.3f}" for name, value in scalars.items()) + f", waiting={record.waiting:.0%}"
    if not leads:
        return
    result = folder.result(training)
    print(result.model_dump_json() if as_json else describe_run(result))
    if (failure := result.failure) is not None:
        say(f"note: this run may have failed: {failure}; try another --seed or a lower --lr before you judge it")
    if result.origin.random_teacher:
        warn_random_teacher(result.origin.teacher)


def settle(settings: RunSettings, options: Mapping[str, object], checkpoint: Checkpoint | None) -> RunSettings:
    """The settings of a run: the defaults or, when it goes on, those it began with; options must not contradict the latter.

    Raises:
        SettingsError: an option that cannot work.
        CheckpointError: an option that differs from what the run began with.
    """
    if checkpoint is None:
        chosen = settings.changed(options)
        return chosen.model_copy(update={"objective": chosen.objective.as_new()})
    begun = checkpoint.record.settings
    differences = begun.changed(options).differences(begun)
    if differences:
        raise CheckpointError(
            "the run was begun with other settings:\n    " + "\n    ".join(differences),
            hint="leave these options out to go on with the run, or start anew with another --out",
        )
    return begun


def _check_teacher_options(settings: RunSettings, options: Mapping[str, object]) -> None:
    """Refuse what only an objective with a teacher takes."""
    kind = OBJECTIVES.get(settings.objective.kind)
    names = {"objective.conditioning": "--conditioning", "objective.variance_weight": "--variance-weight"}
    given = [option for name, option in names.items() if name in options]
    if kind is not None and not issubclass(kind, Distillation) and given:
        raise SettingsError(
            f"{given[0]} with objective {settings.objective.name}, which has no teacher",
            expected="an objective that learns targets: " + ", ".join(n for n, k in OBJECTIVES.items() if issubclass(k, Distillation)),
            hint=f"leave {given[0]} out, or choose another --objective",
        )


def _announce(training: Pretraining, *, resume: bool, resumed: bool) -> None:
    plan, settings, device = training.plan, training.settings, training.fabric.device
    clips = settings.clips
    say(f"device {device}; {settings.encoder.name} {settings.encoder.size}, objective {settings.objective.name}")
    say(describe_choice(training))
    say(f"clips of {clips.num_frames} x {clips.num_points} points, {plan.num_steps} steps; teacher {training.origin.teacher}")
    if settings.training.side == "test":
        say("note: this trains on the test side; an evaluation on its videos has seen them")
    if plan.num_short:
        say(f"{plan.num_short} sequences are shorter than a clip ({clips.span} frames); their last frame repeats")
    if resume:
        say(f"going on at step {training.step}" if resumed else "nothing was saved there yet; starting at step 0")
    if training.origin.random_teacher:
        warn_random_teacher(training.origin.teacher)


def describe_choice(training: Pretraining) -> str:
    """How many sequences of which side a run takes and leaves out."""
    settings, sequences = training.settings.training, training.dataset.cache.sequences
    chosen = set(training.plan.chosen)
    taken, left = ([info for index, info in enumerate(sequences) if (index in chosen) == wanted] for wanted in (True, False))
    kinds = [", ".join(f"{count} {side}" for side, count in sorted(count_sides(some, settings.protocol).items())) for some in (taken, left)]
    return f"{len(taken)} of {len(sequences)} sequences ({settings.side}, protocol {settings.protocol}): {kinds[0]}" + (
        f"; left out: {kinds[1]}" if left else ""
    )


def describe_run(result: RunResult) -> str:
    """A finished run in a few lines."""
    lines = [
        f"checkpoint  {result.checkpoint}",
        f"steps       {result.steps}",
        "last epoch  " + ", ".join(f"{name} {value:.4f}" for name, value in {"loss": result.loss, **result.scalars}.items()),
        f"teacher     {_teacher(result.origin.teacher, result.origin.random_teacher)}",
    ]
    return "\n".join(lines)


def run_encoders(*, num_frames: int, num_points: int, quiet: bool, as_json: bool) -> None:
    """`cross4d-train encoders`."""
    kinds = [(name, size, outline_encoder(kind, config)) for name, (kind, sizes) in ENCODERS.items() for size, config in sizes.items()]
    rows = []
    for (name, size, encoder), _ in progress(kinds, total=len(kinds), unit="encoder", quiet=quiet):
        try:
            cost = count_cost(encoder, num_frames=num_frames, num_points=num_points)
        except SettingsError as error:
            say(f"{name} {size}: {error.found}")
            continue
        rows.append({"encoder": name, "size": size, **asdict(cost)})
    if as_json:
        print(json.dumps(rows))
        return
    print(f"{'encoder':14} {'size':10} {'parameters':>12} {'tokens':>7} {'channels':>9} {'GFLOPs':>8} {'with attention':>15}")
    for row in rows:
        linear = row["linear_flops"] / 1e9
        every = linear + row["product_flops"] / 1e9
        numbers = f"{row['parameters']:12,} {row['tokens']:7,} {row['channels']:9,} {linear:8.2f} {every:15.2f}"
        print(f"{row['encoder']:14} {row['size']:10} {numbers}")


def _teacher(label: str, random_teacher: bool) -> str:
    return f"{label} WITH RANDOM WEIGHTS" if random_teacher else label
