"""What the commands of `cross4d-train` do: settle the settings, run with a progress bar, print the result."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from cross4d_cache.errors import OutputError, SettingsError, printable
from cross4d_cache.progress import progress
from cross4d_cache.store import open_cache
from cross4d_train.advice import on_device
from cross4d_train.checkpoint import Checkpoint
from cross4d_train.cli.console import note_newer, say, show_json, warn_random_teacher
from cross4d_train.clips import count_sides
from cross4d_train.cluster import launch
from cross4d_train.encoders import ENCODERS, outline_encoder
from cross4d_train.encoders.arithmetic import count_cost
from cross4d_train.first_weights import identify_weights
from cross4d_train.loop import Pretraining, make_fabric
from cross4d_train.objectives import OBJECTIVES
from cross4d_train.objectives.distillation import Distillation
from cross4d_train.run import RunFolder, RunResult, other_settings
from cross4d_train.settings import RunSettings
from cross4d_train.signals import STOPPED, stopping
from cross4d_train.suitability import remarks


def run_pretrain(
    store: Path | str,
    out: Path,
    options: Mapping[str, object],
    *,
    initial: Path | None,
    resume: bool,
    save_every: float,
    keep: int,
    device: str,
    num_devices: int,
    num_workers: int,
    logger: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """`cross4d-train pretrain`.

    Raises:
        SystemExit: a signal stopped it; what was trained is saved.
    """
    manifest = open_cache(store).manifest
    note_newer(manifest, str(store))
    fabric = make_fabric(device, num_devices)
    folder = RunFolder(out, logger=logger)
    checkpoint = folder.load()
    if checkpoint is not None:
        note_newer(checkpoint.record, str(folder.checkpoint_path))
    settings = settle(folder, checkpoint, RunSettings.for_cache(manifest), options, initial=initial, resume=resume)
    _check_teacher_options(settings, options)
    launch(fabric)
    training = Pretraining(store, settings, fabric, num_workers=num_workers, checkpoint=checkpoint, initial=initial)
    leads, begun = fabric.is_global_zero, checkpoint is not None or folder.settings_path.exists()
    if leads:  # of several processes one talks
        _announce(training, begun=begun)
    advice = on_device(fabric.device, None if begun else settings) if leads else None
    steps, total = folder.record(training, save_every=save_every, keep=keep), training.plan.num_steps
    with stopping(training.stop) as signals:
        for record, shown in progress(steps, total=total, initial=training.step, unit="step", quiet=quiet or not leads, advice=advice):
            scalars = {"loss": record.loss, **record.scalars}
            shown.note = ", ".join(f"{name}={value:.3f}" for name, value in scalars.items()) + f", waiting={record.waiting:.0%}"
    if not leads:
        return
    if training.step < training.plan.num_steps:
        cause = signals[0] if signals else "a signal"
        say(f"stopped by {cause}: step {training.step} of {training.plan.num_steps} is saved; the same command resumes there")
        raise SystemExit(STOPPED)
    result = folder.result(training)
    if as_json:
        show_json(result)
    else:
        print(describe_run(result))
    if (failure := result.failure) is not None:
        say(f"note: this run may have failed: {failure}; try another --seed or a lower --lr before you judge it")
    if result.origin.random_teacher:
        warn_random_teacher(result.origin.teacher)


def settle(
    folder: RunFolder,
    checkpoint: Checkpoint | None,
    defaults: RunSettings,
    options: Mapping[str, object],
    *,
    initial: Path | None,
    resume: bool,
) -> RunSettings:
    """The settings of the run in a folder: the defaults and options or, if it was begun, its own, which these must not contradict.

    With `resume` the run's own are the defaults. A larger number of epochs lengthens the run from where it goes on.

    Raises:
        SettingsError: an option that cannot work.
        OutputError: nothing to resume.
        CheckpointError: an option that differs from what the run was begun with, or `initial` is no checkpoint.
    """
    begun = folder.settings(checkpoint)
    if begun is None and resume:
        raise OutputError(
            f"{folder.path} {'has no run in it' if folder.path.exists() else 'does not exist'}",
            expected="the folder of a run that was begun",
            hint="name it with --out, or begin one without --resume",
        )
    wanted = begun if begun is not None and resume else defaults
    if initial is not None:
        weights = identify_weights(initial)
        wanted = wanted.model_copy(update={"initial": weights} | ({} if wanted is begun else {"encoder": weights.settings.encoder}))
    wanted = wanted.changed(options)
    if begun is None:
        return wanted.model_copy(update={"objective": wanted.objective.as_new()})
    step = 0 if checkpoint is None else checkpoint.record.step
    if wanted.training.num_epochs > begun.training.num_epochs:
        begun = begun.lengthened(wanted.training.num_epochs, step)
    differences = wanted.by_history_of(begun).differences(begun, step)
    if differences:
        raise other_settings(folder.path, differences)
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


def _announce(training: Pretraining, *, begun: bool) -> None:
    plan, settings, device = training.plan, training.settings, training.fabric.device
    clips = settings.clips
    say(f"device {device}; {settings.encoder.name} {settings.encoder.size}, objective {settings.objective.name}")
    say(describe_choice(training))
    say(f"clips of {clips.num_frames} x {clips.num_points} points, {plan.num_steps} steps; teacher {training.origin.teacher}")
    if settings.training.side == "test":
        say("note: this trains on the test side; an evaluation on its videos has seen them")
    for remark in remarks(training):
        say(f"note: {remark}")
    if plan.num_short:
        say(f"{plan.num_short} sequences are shorter than a clip ({clips.span} frames); their last frame repeats")
    if settings.initial is not None and training.step == 0:
        say(f"beginning with the encoder that {settings.initial.step} steps trained on {settings.initial.origin.dataset}")
    if begun:
        say(f"resuming at step {training.step}" if training.step else "nothing was saved there yet; starting at step 0")
    for earlier in settings.training.earlier_lengths[-1:]:
        if earlier.until_step == training.step:
            say(f"lengthened from {earlier.num_epochs} to {settings.training.num_epochs} epochs, with their learning rate from here on")
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
    return "\n".join(map(printable, lines))


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
