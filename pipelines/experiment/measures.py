"""What recipes measure beside the evaluations of `cross4d-train`: parts by single tokens, losses on videos not trained on, and what the
stored targets tell without an encoder. The names are kinds of an `EvaluationRun`."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from cross4d_cache.options import change
from cross4d_cache.record import Record
from cross4d_cache.store import open_cache
from cross4d_train.checkpoint import load_checkpoint, load_encoder, load_weights
from cross4d_train.clips import even_requests, select_sequences
from cross4d_train.conditioning import Conditioning
from cross4d_train.data import BatchLoader, in_batches
from cross4d_train.dataset import ClipDataset
from cross4d_train.evaluation.base import EvaluationSettings
from cross4d_train.evaluation.encoder_source import open_source
from cross4d_train.evaluation.evaluate import EvaluationRequest
from cross4d_train.evaluation.features import BATCH, VideoFeatures
from cross4d_train.evaluation.held_out import HeldOutLoss, held_out_loss
from cross4d_train.evaluation.linear import HeadScore, fit_head
from cross4d_train.evaluation.part_probe import PartScore, PartSettings, TokenFeatures, extract_tokens, join_tokens, score_parts
from cross4d_train.evaluation.probe import ProbeSettings
from cross4d_train.objectives import build_objective
from cross4d_train.objectives.dense import Dense
from cross4d_train.objectives.objective import TargetSpec
from cross4d_train.places import checkpoint_at
from cross4d_train.settings import recipe_clips
from cross4d_train.token_targets import match_points, point_targets

CPU = torch.device("cpu")
Sides = tuple[tuple[int, ...], tuple[int, ...]]
"""The sequences to train on, and those to test on."""


class TokenParts(Record):
    """Mean IoU of parts told from single tokens of one clip a video."""

    settings: EvaluationSettings
    parts: PartScore


class HeldOut(Record):
    """The loss of a dense student on test videos, beside those of a constant and of the place in the image."""

    settings: EvaluationSettings
    loss: HeldOutLoss


class TargetScores(Record):
    """What the targets of the tokens' points tell by themselves: actions, and parts, which are asked only of tokens that have a target."""

    settings: ProbeSettings
    raw: HeadScore
    standardised: HeadScore
    parts: PartScore


def settings_of(kind: str, dataset: str, options: Mapping[str, object]) -> EvaluationSettings:
    """The settings of a measure on a store of a dataset: those of its recipe, changed by options.

    Raises:
        SettingsError: a value that cannot work.
    """
    return change((ProbeSettings if kind == "targets" else EvaluationSettings)(clips=recipe_clips(dataset)), options)


def token_parts(request: EvaluationRequest) -> TokenParts:
    """How well single tokens of an encoder tell parts of bodies.

    Raises:
        SettingsError: the store has no part labels.
    """
    settings, dataset = _open(request, labels=True)
    source = open_source(request.checkpoint, encoder=request.encoder, seed=settings.seed, dataset=dataset.cache.manifest.dataset.name)
    asked = PartSettings(clips=settings.clips, seed=settings.seed)
    train, test = (
        join_tokens(list(extract_tokens(source.encoder, dataset, side, asked, batch_size=BATCH, device=CPU)))
        for side in _sides(dataset, settings)
    )
    return TokenParts(settings=settings, parts=score_parts(train, test, asked))


def held_out(request: EvaluationRequest) -> HeldOut:
    """The loss of a dense student on the test side of the store it learned from."""
    settings, dataset = _open(request)
    loaded = load_checkpoint(checkpoint_at(request.checkpoint))
    encoder = load_encoder(loaded)
    objective = build_objective(loaded.record.settings.objective, encoder, TargetSpec.of(dataset.cache.manifest))
    assert isinstance(objective, Dense)
    load_weights(objective, loaded.part("objective"), "objective")
    train, test = _sides(dataset, settings)
    return HeldOut(settings=settings, loss=held_out_loss(encoder, objective, dataset, train=train, test=test, seed=settings.seed))


def target_scores(request: EvaluationRequest) -> TargetScores:
    """Probes of the stored targets at the places of the tokens that an untrained encoder makes."""
    settings, dataset = _open(request, labels=True)
    assert isinstance(settings, ProbeSettings)
    videos, tokens = [], []
    for chosen in _sides(dataset, settings):
        videos.append(_pooled_targets(request, dataset, chosen, settings))
        made = _token_targets(request, dataset, chosen, settings.seed, num_windows=1)
        tokens.append(join_tokens([TokenFeatures(features=targets[visible], parts=parts[visible]) for targets, visible, parts in made]))
    return TargetScores(
        settings=settings,
        raw=fit_head(videos[0], videos[1], settings.head, standardise=False),
        standardised=fit_head(videos[0], videos[1], settings.head, standardise=True),
        parts=score_parts(tokens[0], tokens[1], PartSettings(clips=settings.clips, seed=settings.seed)),
    )


def _pooled_targets(request: EvaluationRequest, dataset: ClipDataset, chosen: Sequence[int], settings: ProbeSettings) -> VideoFeatures:
    """The mean target of each clip's tokens."""
    made = _token_targets(request, dataset, chosen, settings.seed, num_windows=settings.num_windows)
    pooled = [targets.sum(dim=1) / visible.sum(dim=1, keepdim=True).clamp(min=1) for targets, visible, _ in made]
    infos = [dataset.cache.sequences[index] for index in chosen]
    return VideoFeatures(
        features=torch.cat(pooled).unflatten(0, (-1, settings.num_windows)),
        actions=torch.tensor([info.action for info in infos]),
        ids=tuple(info.id for info in infos),
    )


def _token_targets(
    request: EvaluationRequest, dataset: ClipDataset, chosen: Sequence[int], seed: int, *, num_windows: int
) -> Iterator[tuple[Float32[Tensor, "batch token channel"], Bool[Tensor, "batch token"], Int64[Tensor, "batch token"]]]:
    """Stored targets, whether there is one, and parts (0 without labels) of the tokens that an encoder would make."""
    assert request.encoder is not None
    encoder = request.encoder.build(seed)
    conditioning = Conditioning("none", target_channels=dataset.cache.manifest.projection.channels, num_patches=None)
    requests = even_requests(dataset.clips, dataset.cache.sequences, chosen, num_windows=num_windows, seed=seed)
    step = max(1, BATCH // num_windows) * num_windows
    for batch in BatchLoader(dataset).load(in_batches(requests, step)):
        with torch.no_grad():
            tokens = encoder(batch.points)
        points = match_points(tokens, batch.points)
        targets, visible = point_targets(batch, tokens.frame, points, conditioning)
        labels = torch.zeros(batch.points.shape[:3], dtype=torch.int64) if batch.part_labels is None else batch.part_labels
        yield targets, visible, labels[torch.arange(len(batch)).unsqueeze(1), tokens.frame, points]


def _open(request: EvaluationRequest, *, labels: bool = False) -> tuple[EvaluationSettings, ClipDataset]:
    settings = settings_of(request.evaluation, open_cache(request.store).manifest.dataset.name, request.options)
    return settings, ClipDataset(request.store, settings.clips, labels=labels)


def _sides(dataset: ClipDataset, settings: EvaluationSettings) -> Sides:
    sequences, protocols = dataset.cache.sequences, dataset.cache.manifest.dataset.protocols
    return (
        select_sequences(sequences, protocols, protocol=settings.protocol, side="train"),
        select_sequences(sequences, protocols, protocol=settings.protocol, side="test"),
    )


MEASURES: dict[str, Callable[[EvaluationRequest], TokenParts | HeldOut | TargetScores]] = {
    "parts": token_parts,
    "held-out": held_out,
    "targets": target_scores,
}
