"""What the evaluating commands of `cross4d-train` do: open encoder and store, settle the settings, run with a progress bar, print."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cross4d_cache.durable import write_durably
from cross4d_cache.errors import OutputError, SettingsError
from cross4d_cache.progress import progress
from cross4d_cache.store import open_cache
from cross4d_train.advice import on_device
from cross4d_train.cli.console import note_newer, say, show_json, warn_random_teacher
from cross4d_train.dataset import ClipDataset
from cross4d_train.evaluation.action_segmentation import ActionSegmentation, ActionSegmentSettings
from cross4d_train.evaluation.base import Evaluation, EvaluationResult, EvaluationSettings, Place
from cross4d_train.evaluation.correspondence import Correspondence, CorrespondenceSettings
from cross4d_train.evaluation.encoder_source import UNTRAINED, open_source
from cross4d_train.evaluation.finetune import FinetuneSettings, Finetuning
from cross4d_train.evaluation.knn import NearestNeighbours, NeighbourSettings
from cross4d_train.evaluation.probe import LinearProbe, ProbeResult, ProbeSettings
from cross4d_train.evaluation.robustness import Robustness
from cross4d_train.evaluation.segment import Segmentation, SegmentSettings
from cross4d_train.evaluation.transfer import transfer_result
from cross4d_train.loop import make_fabric
from cross4d_train.recipes import recipe_for
from cross4d_train.settings import recipe_clips, with_options

EVALUATIONS: dict[str, tuple[type[Evaluation[Any, Any]], type[EvaluationSettings]]] = {
    kind.name: (kind, settings)
    for kind, settings in (
        (LinearProbe, ProbeSettings),
        (NearestNeighbours, NeighbourSettings),
        (Finetuning, FinetuneSettings),
        (Segmentation, SegmentSettings),
        (ActionSegmentation, ActionSegmentSettings),
        (Robustness, ProbeSettings),
        (Correspondence, CorrespondenceSettings),
    )
}
"""Every evaluation of one encoder on one store, by the name of its command, with its settings."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What all evaluating commands are asked alike."""

    encoder: str | None
    size: str | None
    device: str
    num_workers: int
    quiet: bool = False
    as_json: bool
    out: Path | None


def run_evaluation(name: str, checkpoint: str, store: Path | str, options: Mapping[str, object], request: Request) -> None:
    """`cross4d-train probe | knn | finetune | segment | segment-actions | robustness | correspondence`."""
    check_output(request.out)
    evaluation, place = prepare(name, checkpoint, store, options, request)
    present(evaluate(evaluation, place, quiet=request.quiet), request)


def run_transfer(checkpoints: Sequence[str], stores: Sequence[Path | str], options: Mapping[str, object], request: Request) -> None:
    """`cross4d-train transfer`."""
    check_output(request.out)
    trained = replace(request, encoder=None, size=None)
    alike = [_column_options([name for name in checkpoints if name != UNTRAINED], store, options, trained) for store in stores]
    probes: list[list[ProbeResult]] = []
    for checkpoint in checkpoints:
        row = []
        for store, of_column in zip(stores, alike, strict=True):
            of_row = request if checkpoint == UNTRAINED else trained
            result = evaluate(*prepare(LinearProbe.name, checkpoint, store, of_column, of_row), quiet=request.quiet)
            assert isinstance(result, ProbeResult)
            row.append(result)
        probes.append(row)
    present(transfer_result(checkpoints, [str(store) for store in stores], probes), request)


def _column_options(checkpoints: Sequence[str], store: Path | str, options: Mapping[str, object], request: Request) -> Mapping[str, object]:
    """Options with which every encoder is judged on a store by the same clips and protocol; the untrained one by those of the others."""
    settled = {name: prepare(LinearProbe.name, name, store, options, request)[0].settings for name in checkpoints}
    ways = {name: f"clips of {settings.clips}, protocol {settings.protocol}" for name, settings in settled.items()}
    if len(set(ways.values())) > 1:
        raise SettingsError(
            f"encoders that would be judged on {store} in different ways:",
            details=[f"{name}: {ways[name]}" for name in ways],
            expected="one way for a column",
            hint="say which: --frames, --points, --stride, --protocol",
        )
    if not settled:
        return options
    first = next(iter(settled.values()))
    clips = {f"clips.{name}": value for name, value in first.clips.model_dump().items()}
    return {**clips, "protocol": first.protocol, **options}


def settle(name: str, dataset: str, options: Mapping[str, object]) -> EvaluationSettings:
    """The settings of an evaluation on a store of a dataset: those of the dataset's recipe, changed by options."""
    _, settings_type = EVALUATIONS[name]
    defaults = settings_type(clips=recipe_clips(dataset))
    if isinstance(defaults, SegmentSettings):
        defaults = defaults.model_copy(update={"ignored": recipe_for(dataset).ignored_parts})
    return with_options(defaults, options)


def prepare(
    name: str, checkpoint: str, store: Path | str, options: Mapping[str, object], request: Request
) -> tuple[Evaluation[Any, Any], Place]:
    """An evaluation with settled settings: those of the checkpoint and of the dataset's recipe, changed by options.

    Raises:
        Cross4DError: whatever the user has to fix.
    """
    manifest = open_cache(store).manifest
    note_newer(manifest, str(store))
    dataset = manifest.dataset.name
    seed = settle(name, dataset, options).seed  # needed before the clips are known
    source = open_source(checkpoint, name=request.encoder, size=request.size, seed=seed, dataset=dataset)
    if source.training is not None:
        note_newer(source.training, source.label)
    # A protocol of the cache the encoder learned from means nothing in one of another dataset.
    known = source.protocol if source.protocol in manifest.dataset.protocols else None
    clips = {f"clips.{field}": value for field, value in source.clips.model_dump().items()}
    settings = settle(name, dataset, {**clips, "protocol": known, **options})
    kind, _ = EVALUATIONS[name]
    place = Place(device=make_fabric(request.device).device, num_workers=request.num_workers)
    return kind(source, ClipDataset(store, settings.clips, targets=False, labels=kind.labels), settings), place


def evaluate(evaluation: Evaluation[Any, Any], place: Place, *, quiet: bool) -> EvaluationResult:
    """Run to the end, with progress unless `quiet`."""
    source = evaluation.source
    say(f"device {place.device}; {evaluation.name}: {source.settings.name} {source.settings.size} from {source.label}")
    if source.origin and source.origin.random_teacher:
        warn_random_teacher(source.origin.teacher)
    _announce_seen(evaluation)
    steps, advice = evaluation.run(place), on_device(place.device)
    for _ in progress(steps, total=evaluation.total, unit=evaluation.unit, quiet=quiet, advice=advice):
        pass
    result: EvaluationResult = evaluation.result()
    for remark in evaluation.remarks():
        say(f"note: {remark}")
    return result


def present(result: Any, request: Request) -> None:
    """The table, or JSON, on stdout; JSON in the file that was asked for."""
    if request.out is not None:
        write_json(result, request.out)
    if request.as_json:
        show_json(result)
    else:
        print(result.describe())


def write_json(result: BaseModel, path: Path) -> None:
    """Write a result, whole or not at all. What is no file, such as a pipe, is written to where it is.

    Raises:
        OutputError: the file cannot be written.
    """
    data = (result.model_dump_json(indent=1) + "\n").encode()
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_bytes(data)
        else:
            write_durably(path, data)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}", expected="a file in a folder that can be written to", hint="choose another --out"
        ) from None


def check_output(path: Path | None) -> None:
    """Refuse a place for the result that cannot be, before any work is done.

    Raises:
        OutputError: it has no folder, or is one.
    """
    if path is not None and (path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK)):
        found = f"{path} is a folder" if path.is_dir() else f"{path.parent} is no folder that can be written to"
        raise OutputError(f"cannot write {path}: {found}", expected="a file in an existing folder", hint="choose another --out")


def _announce_seen(evaluation: Evaluation[Any, Any]) -> None:
    """Say it if the encoder has seen test videos: allowed, for pre-training uses no labels, but never silent."""
    seen, source = evaluation.num_test_seen, evaluation.source
    if seen is None:
        say("note: pre-training saw another selection of this dataset; whether test videos were among it cannot be told")
    elif seen:
        learned = "all sequences" if source.side == "all" else f"the {source.side} side of protocol {source.protocol}"
        if source.training is not None and source.training.initial is not None:
            learned += ", and what an earlier run saw, whose weights it began with"
        say(f"note: {seen} of the {len(evaluation.test)} test videos were seen in pre-training ({learned}), without their labels")
