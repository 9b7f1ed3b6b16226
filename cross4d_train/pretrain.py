"""Pre-training as work: a request says what is trained on which store and where it goes; `pretrain` does it and returns the result."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from pydantic import Field

from cross4d_cache.errors import OutputError, SettingsError
from cross4d_cache.record import Record
from cross4d_cache.store import open_cache
from cross4d_cache.types import Precision
from cross4d_cache.work import Remark, Stage, Work, newer, steps
from cross4d_train.advice import on_device
from cross4d_train.checkpoint import Checkpoint
from cross4d_train.clips import count_sides
from cross4d_train.cluster import launch
from cross4d_train.first_weights import identify_weights
from cross4d_train.loop import Pretraining, own_precision
from cross4d_train.metric_log import DEFAULT
from cross4d_train.objectives import OBJECTIVES, settled
from cross4d_train.objectives.distillation import Distillation
from cross4d_train.places import checkpoint_at
from cross4d_train.resources import Resources
from cross4d_train.run import RunFolder, RunResult, other_settings
from cross4d_train.settings import RunSettings
from cross4d_train.signals import stopping
from cross4d_train.suitability import remarks


class PretrainRequest(Record):
    """A run on a store, kept in the folder `out`; a run that was begun there resumes.

    `options` are settings by dotted name (`training.num_epochs`) that differ from the recipe of the store's dataset. The run begins with
    the encoder of the checkpoint `initial`, at any place that `load` takes. With `resume` the run must have been begun, and its own
    settings are what `options` change. The state is saved after every epoch and every `save_every` minutes; `keep` earlier checkpoints
    stay. `logger` says where the numbers of every step go: tensorboard, csv, wandb or none.
    """

    store: str
    out: Path
    options: dict[str, Any] = Field(default_factory=dict)
    initial: str | None = None
    resume: bool = False
    save_every: float | None = None
    keep: int = 0
    logger: str = DEFAULT


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A training that a signal stopped: what it did is saved, and the same request resumes there."""


def pretrain(request: PretrainRequest, resources: Resources, *, heed_signals: bool = False) -> Work[RunResult | None]:
    """Train to the end, from the beginning or from where an earlier call stopped.

    With `heed_signals`, which is for the main thread alone, SIGTERM and SIGUSR1 finish the step that is under way and save. Of several
    devices only the first process speaks and returns the result; the others return None.

    Raises:
        Stopped: such a signal came before the end, to this process or another one of the run.
        Cross4DError: whatever the user has to fix.
    """
    folder, training = yield from _begin(request, resources)
    heeding: AbstractContextManager[list[str]] = stopping(training.stop) if heed_signals else nullcontext([])
    with heeding as signals:
        if not training.fabric.is_global_zero:
            for _ in folder.record(training):
                pass
            return None
        yield from steps(_stage(folder, training), _train(folder, training, request))
    if training.step < training.plan.num_steps:
        cause = signals[0] if signals else "a signal"
        raise Stopped(f"stopped by {cause}: step {training.step} of {training.plan.num_steps} is saved")
    result = folder.result(training)
    yield from _conclude(result)
    return result


def _begin(request: PretrainRequest, resources: Resources) -> Work[tuple[RunFolder, Pretraining]]:
    """Open all that the run needs; refuse what cannot work before any step."""
    manifest = open_cache(request.store).manifest
    yield from newer(manifest, request.store)
    folder = RunFolder(request.out, logger=request.logger)
    checkpoint = folder.load()
    if checkpoint is not None:
        yield from newer(checkpoint.record, str(folder.checkpoint_path))
    initial = None if request.initial is None else checkpoint_at(request.initial)
    defaults = RunSettings.for_cache(manifest)
    settings = resolve_settings(folder, checkpoint, defaults, request, initial, own_precision(resources.torch_device.type))
    _check_teacher_options(settings, request)
    fabric = resources.fabric_in(settings.training.precision)
    launch(fabric)
    training = Pretraining(request.store, settings, fabric, num_workers=resources.num_loaders, checkpoint=checkpoint, initial=initial)
    if fabric.is_global_zero:
        yield from _announce(training, begun=folder.is_begun())
    return folder, training


def resolve_settings(
    folder: RunFolder,
    checkpoint: Checkpoint | None,
    defaults: RunSettings,
    request: PretrainRequest,
    initial: Path | None,
    precision: Precision,
) -> RunSettings:
    """The settings of the run in a folder: the defaults and options or, if it was begun, its own, which these must not contradict.

    With `resume` the run's own are the defaults. A larger number of epochs lengthens the run from where it resumes. `initial` is the file
    of the request's checkpoint; a new run computes in `precision` unless the options name another.

    Raises:
        SettingsError: an option that cannot work.
        OutputError: nothing to resume.
        CheckpointError: an option that differs from what the run was begun with, or `initial` is no checkpoint.
    """
    begun = folder.settings(checkpoint)
    if begun is None and request.resume:
        raise OutputError(
            f"{folder.path} {'has no run in it' if folder.path.exists() else 'does not exist'}",
            expected="the folder of a run that was begun",
            hint="name it with `out`, or begin one without `resume`",
        )
    wanted = begun if begun is not None and request.resume else defaults
    if initial is not None:
        weights = identify_weights(initial)
        wanted = wanted.model_copy(update={"initial": weights} | ({} if wanted is begun else {"encoder": weights.settings.encoder}))
    wanted = wanted.changed(request.options)
    wanted = wanted.model_copy(update={"encoder": wanted.encoder.settled(), "objective": settled(wanted.objective)})
    if begun is None:
        training = wanted.training.model_copy(update={"precision": wanted.training.precision or precision})
        return wanted.model_copy(update={"objective": wanted.objective.as_new(), "training": training})
    step = 0 if checkpoint is None else checkpoint.record.step
    if wanted.training.num_epochs > begun.training.num_epochs:
        begun = begun.lengthened(wanted.training.num_epochs, step)
    differences = wanted.by_history_of(begun).differences(begun, step)
    if differences:
        raise other_settings(folder.path, differences)
    return begun


def _check_teacher_options(settings: RunSettings, request: PretrainRequest) -> None:
    """Refuse what only an objective with a teacher takes."""
    kind = OBJECTIVES.find(settings.objective.kind)
    given = [name for name in ("objective.conditioning", "objective.variance_weight") if name in request.options]
    if not issubclass(kind, Distillation) and given:
        raise SettingsError(
            f"`{given[0]}` with objective {settings.objective.name}, which has no teacher",
            expected="an objective that learns targets: "
            + ", ".join(n for n, k in OBJECTIVES.built_in.items() if issubclass(k, Distillation)),
            hint=f"leave `{given[0]}` out, or choose another `objective.name`",
        )


def _stage(folder: RunFolder, training: Pretraining) -> Stage:
    advice = on_device(training.fabric.device, None if folder.is_begun() else training.settings)
    return Stage(name="pretrain", unit="step", total=training.plan.num_steps, initial=training.step, advice=advice)


def _train(folder: RunFolder, training: Pretraining, request: PretrainRequest) -> Iterator[tuple[int, str]]:
    save_every = math.inf if request.save_every is None else request.save_every
    for record in folder.record(training, save_every=save_every, keep=request.keep):
        scalars = {"loss": record.loss, **record.scalars}
        yield record.step + 1, ", ".join(f"{name}={value:.3f}" for name, value in scalars.items()) + f", waiting={record.waiting:.0%}"


def _announce(training: Pretraining, *, begun: bool) -> Iterator[Remark]:
    """What is trained on what, and what to know before hours are spent."""
    plan, settings, device = training.plan, training.settings, training.fabric.device
    clips = settings.clips
    yield Remark(f"device {device}; {settings.encoder.name} {settings.encoder.size}, objective {settings.objective.name}")
    yield Remark(describe_choice(training))
    yield Remark(f"clips of {clips.num_frames} x {clips.num_points} points, {plan.num_steps} steps; teacher {training.origin.teacher}")
    if settings.training.side == "test":
        yield Remark("note: this trains on the test side; an evaluation on its videos has seen them")
    yield from (Remark(f"note: {remark}") for remark in remarks(training))
    if plan.num_short:
        yield Remark(f"{plan.num_short} sequences are shorter than a clip ({clips.span} frames); their last frame repeats")
    yield from _tell_beginning(training, begun=begun)
    yield from training.origin.warnings()


def _tell_beginning(training: Pretraining, *, begun: bool) -> Iterator[Remark]:
    settings = training.settings
    if settings.initial is not None and training.step == 0:
        yield Remark(f"beginning with the encoder that {settings.initial.step} steps trained on {settings.initial.origin.dataset}")
    if begun:
        yield Remark(f"resuming at step {training.step}" if training.step else "nothing was saved there yet; starting at step 0")
    for earlier in settings.training.earlier_lengths[-1:]:
        if earlier.until_step == training.step:
            lengths = f"from {earlier.num_epochs} to {settings.training.num_epochs} epochs"
            yield Remark(f"lengthened {lengths}, with their learning rate from here on")


def describe_choice(training: Pretraining) -> str:
    """How many sequences of which side a run takes and leaves out."""
    settings, sequences = training.settings.training, training.dataset.cache.sequences
    chosen = set(training.plan.chosen)
    taken, left = ([info for index, info in enumerate(sequences) if (index in chosen) == wanted] for wanted in (True, False))
    kinds = [", ".join(f"{count} {side}" for side, count in sorted(count_sides(some, settings.protocol).items())) for some in (taken, left)]
    return f"{len(taken)} of {len(sequences)} sequences ({settings.side}, protocol {settings.protocol}): {kinds[0]}" + (
        f"; left out: {kinds[1]}" if left else ""
    )


def _conclude(result: RunResult) -> Iterator[Remark]:
    """What to know before a finished run is judged."""
    if (failure := result.failure) is not None:
        advice = "try another `training.seed` or a lower `training.learning_rate` before you judge it"
        yield Remark(f"note: this run may have failed: {failure}; {advice}")
    yield from result.origin.warnings()
