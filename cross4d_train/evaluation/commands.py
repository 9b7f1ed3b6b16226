"""What the evaluating commands of `cross4d-train` do: open encoder and store, settle the settings, run with a progress bar, print."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cross4d_cache.errors import OutputError
from cross4d_cache.store import open_cache
from cross4d_train.console import progress, say, warn_random_teacher
from cross4d_train.data import ClipDataset
from cross4d_train.evaluation.action_segmentation import ActionSegmentation, ActionSegmentSettings
from cross4d_train.evaluation.correspondence import Correspondence, CorrespondenceSettings
from cross4d_train.evaluation.evaluation import Evaluation, EvaluationResult, EvaluationSettings, Place
from cross4d_train.evaluation.finetune import FinetuneSettings, Finetuning
from cross4d_train.evaluation.knn import NearestNeighbours, NeighbourSettings
from cross4d_train.evaluation.probe import LinearProbe, ProbeResult, ProbeSettings
from cross4d_train.evaluation.robustness import Robustness
from cross4d_train.evaluation.segment import Segmentation, SegmentSettings
from cross4d_train.evaluation.source import UNTRAINED, open_source
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
    as_json: bool
    out: Path | None


def run_evaluation(name: str, checkpoint: str, store: Path, options: Mapping[str, object], request: Request) -> None:
    """`cross4d-train probe | knn | finetune | segment | segment-actions | robustness | correspondence`."""
    check_output(request.out)
    evaluation, place = prepare(name, checkpoint, store, options, request)
    present(evaluate(evaluation, place), request)


def run_transfer(checkpoints: Sequence[str], stores: Sequence[Path], options: Mapping[str, object], request: Request) -> None:
    """`cross4d-train transfer`."""
    check_output(request.out)
    probes: list[list[ProbeResult]] = []
    for checkpoint in checkpoints:
        row = []
        for store in stores:
            own = request if checkpoint == UNTRAINED else replace(request, encoder=None, size=None)
            result = evaluate(*prepare(LinearProbe.name, checkpoint, store, options, own))
            assert isinstance(result, ProbeResult)
            row.append(result)
        probes.append(row)
    present(transfer_result(checkpoints, [str(store) for store in stores], probes), request)


def prepare(name: str, checkpoint: str, store: Path, options: Mapping[str, object], request: Request) -> tuple[Evaluation[Any, Any], Place]:
    """An evaluation with settled settings: those of the checkpoint and of the dataset's recipe, changed by options.

    Raises:
        Cross4DError: whatever the user has to mend.
    """
    kind, settings_type = EVALUATIONS[name]
    manifest = open_cache(store).manifest
    dataset, defaults = manifest.dataset.name, settings_type(clips=recipe_clips(manifest.dataset.name))
    if isinstance(defaults, SegmentSettings):
        defaults = defaults.model_copy(update={"ignored": recipe_for(dataset).ignored_parts})
    seed = with_options(defaults, options).seed  # needed before the clips are known
    source = open_source(checkpoint, name=request.encoder, size=request.size, seed=seed, dataset=dataset)
    # A protocol of the cache the encoder learned from means nothing in one of another dataset.
    known = source.protocol if source.protocol in manifest.dataset.protocols else None
    settings = with_options(defaults.model_copy(update={"clips": source.clips, "protocol": known}), options)
    place = Place(device=make_fabric(request.device).device, num_workers=request.num_workers)
    return kind(source, ClipDataset(store, settings.clips, targets=False, labels=kind.labels), settings), place


def evaluate(evaluation: Evaluation[Any, Any], place: Place) -> EvaluationResult:
    """Run to the end with a progress bar."""
    source = evaluation.source
    say(f"device {place.device}; {evaluation.name}: {source.settings.name} {source.settings.size} from {source.label}")
    if source.origin and source.origin.random_teacher:
        warn_random_teacher(source.origin.teacher)
    _announce_seen(evaluation)
    for _ in progress(evaluation.run(place), total=evaluation.total, unit=evaluation.unit):
        pass
    result: EvaluationResult = evaluation.result()
    return result


def present(result: Any, request: Request) -> None:
    """The table, or JSON, on stdout; JSON in the file that was asked for."""
    if request.out is not None:
        write_json(result, request.out)
    print(result.model_dump_json() if request.as_json else result.describe())


def write_json(result: BaseModel, path: Path) -> None:
    """Write a result, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(result.model_dump_json(indent=1) + "\n")
        os.replace(file.name, path)
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
        say(f"note: {seen} of the {len(evaluation.test)} test videos were seen in pre-training ({learned}), without their labels")
