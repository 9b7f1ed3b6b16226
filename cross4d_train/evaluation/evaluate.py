"""Evaluations as work: a request says which encoder is evaluated on which store and how; `evaluate` does it and returns the result."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from cross4d_cache.durable import write_durably
from cross4d_cache.errors import OutputError
from cross4d_cache.options import change
from cross4d_cache.record import Record
from cross4d_cache.registry import look_up
from cross4d_cache.store import open_cache
from cross4d_cache.work import Remark, Stage, Work, newer, steps
from cross4d_train.advice import on_device
from cross4d_train.dataset import ClipDataset
from cross4d_train.evaluation.action_segmentation import ActionSegmentation, ActionSegmentSettings
from cross4d_train.evaluation.base import Evaluation, EvaluationResult, EvaluationSettings
from cross4d_train.evaluation.correspondence import Correspondence, CorrespondenceSettings
from cross4d_train.evaluation.encoder_source import open_source
from cross4d_train.evaluation.finetune import FinetuneSettings, Finetuning
from cross4d_train.evaluation.knn import NearestNeighbours, NeighbourSettings
from cross4d_train.evaluation.probe import LinearProbe, ProbeSettings
from cross4d_train.evaluation.robustness import Robustness
from cross4d_train.evaluation.segment import Segmentation, SegmentSettings
from cross4d_train.recipes import recipe_for
from cross4d_train.resources import Resources
from cross4d_train.settings import EncoderSettings, recipe_clips

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


class EvaluationRequest(Record):
    """An evaluation, on a store, of the encoder of a checkpoint at any place that `cross4d_train.load` takes, or with `random` of an
    untrained `encoder`.

    `options` are settings of the evaluation by dotted name (`head.num_epochs`) that differ from those of the checkpoint and of the recipe
    of the store's dataset.
    """

    evaluation: str
    checkpoint: str
    store: str
    encoder: EncoderSettings | None = None
    options: dict[str, Any] = Field(default_factory=dict)


def evaluate(request: EvaluationRequest, resources: Resources) -> Work[EvaluationResult]:
    """Do an evaluation, from opening the encoder and the store to the result.

    Raises:
        Cross4DError: whatever the user has to fix.
    """
    device = resources.torch_device
    evaluation = prepare(request)
    yield from _announce(evaluation, resources)
    stage = Stage(name=evaluation.name, unit=evaluation.unit, total=evaluation.total, advice=on_device(device))
    yield from steps(stage, (done for done, _ in enumerate(evaluation.run(resources), start=1)))
    result: EvaluationResult = evaluation.result()
    yield from (Remark(f"note: {remark}") for remark in evaluation.remarks())
    return result


def prepare(request: EvaluationRequest) -> Evaluation[Any, Any]:
    """An evaluation that is ready to run, with all of its settings: those of the checkpoint and of the recipe, changed by the options.

    Raises:
        Cross4DError: whatever the user has to fix.
    """
    kind, _ = look_up(EVALUATIONS, request.evaluation, what="evaluation", setting="evaluation")
    dataset = open_cache(request.store).manifest.dataset
    seed = resolve_settings(request.evaluation, dataset.name, request.options).seed  # needed before the clips are known
    source = open_source(request.checkpoint, encoder=request.encoder, seed=seed, dataset=dataset.name)
    # A protocol of the cache the encoder learned from means nothing in one of another dataset.
    known = source.protocol if source.protocol in dataset.protocols else None
    clips = {f"clips.{field}": value for field, value in source.clips.model_dump().items()}
    settings = resolve_settings(request.evaluation, dataset.name, {**clips, "protocol": known, **request.options})
    return kind(source, ClipDataset(request.store, settings.clips, targets=False, labels=kind.labels), settings)


def resolve_settings(evaluation: str, dataset: str, options: Mapping[str, object]) -> EvaluationSettings:
    """The settings of an evaluation on a store of a dataset: those of the dataset's recipe, changed by options.

    Raises:
        SettingsError: a value that cannot work.
    """
    _, settings_type = EVALUATIONS[evaluation]
    defaults = settings_type(clips=recipe_clips(dataset))
    if isinstance(defaults, SegmentSettings):
        defaults = defaults.model_copy(update={"ignored": recipe_for(dataset).ignored_parts})
    return change(defaults, options)


def _announce(evaluation: Evaluation[Any, Any], resources: Resources) -> Iterator[Remark]:
    """What is evaluated, and what to know before its result is believed."""
    source, cache = evaluation.source, evaluation.dataset.cache
    yield from newer(cache.manifest, cache.storage.place)
    if source.training is not None:
        yield from newer(source.training, source.label)
    encoder = f"{source.settings.name} {source.settings.size} from {source.label}"
    yield Remark(f"device {resources.torch_device}; {evaluation.name}: {encoder}")
    if source.origin:
        yield from source.origin.warnings()
    yield from _tell_seen(evaluation)


def _tell_seen(evaluation: Evaluation[Any, Any]) -> Iterator[Remark]:
    """Whether the encoder has seen test videos: allowed, for pre-training uses no labels, but never silent."""
    seen, source = evaluation.num_test_seen, evaluation.source
    if seen is None:
        yield Remark("note: pre-training saw another selection of this dataset; whether test videos were among it cannot be told")
    elif seen:
        learned = "all sequences" if source.side == "all" else f"the {source.side} side of protocol {source.protocol}"
        if source.training is not None and source.training.initial is not None:
            learned += ", and what an earlier run saw, whose weights it began with"
        videos = f"{seen} of the {len(evaluation.test)} test videos"
        yield Remark(f"note: {videos} were seen in pre-training ({learned}), without their labels")


def check_output(path: Path | None) -> None:
    """Refuse a place for a result that cannot be, before any work is done.

    Raises:
        OutputError: it has no folder, or is one.
    """
    if path is not None and (path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK)):
        found = f"{path} is a folder" if path.is_dir() else f"{path.parent} is no folder that can be written to"
        raise OutputError(f"cannot write {path}: {found}", expected="a file in an existing folder", hint="choose another `out`")


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
            f"cannot write {path}: {error.strerror}", expected="a file in a folder that can be written to", hint="choose another `out`"
        ) from None
