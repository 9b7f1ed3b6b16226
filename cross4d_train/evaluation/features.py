"""Frozen features: one vector a clip, pooled over its tokens, for evenly spaced clips of every sequence."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from cross4d_cache.types import UNLABELLED
from cross4d_train.clips import even_requests
from cross4d_train.data import BatchLoader, in_batches
from cross4d_train.dataset import ClipDataset
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.evaluation.base import Evaluation, EvaluationResult, EvaluationSettings
from cross4d_train.evaluation.corruption import Corruption
from cross4d_train.evaluation.encoder_source import EncoderSource
from cross4d_train.resources import Resources
from cross4d_train.soundness import all_alike, finite_features

Pooling = Literal["mean", "mean+max"]
BATCH = 16
"""Clips that are encoded at a time, or a few more, as videos stay whole."""


@dataclass(frozen=True, kw_only=True)
class VideoFeatures:
    """Pooled features of some videos (cached sequences); all have equally many windows."""

    features: Float32[Tensor, "video window channel"]
    actions: Int64[Tensor, " video"]
    ids: tuple[str, ...]


def pool(features: Float[Tensor, "clip token channel"], pooling: Pooling) -> Float32[Tensor, "clip pooled"]:
    """The mean of a clip's tokens or, twice as wide, their mean and their maximum."""
    mean = features.float().mean(dim=1)
    return mean if pooling == "mean" else torch.cat([mean, features.float().amax(dim=1)], dim=-1)


def extract_features(
    encoder: Encoder,
    loader: BatchLoader,
    chosen: Sequence[int],
    settings: EvaluationSettings,
    device: torch.device,
    *,
    pooling: Pooling = "mean",
    corruption: Corruption | None = None,
) -> Iterator[VideoFeatures]:
    """Pooled features of the chosen sequences, corrupted or as they are, batch by batch; `join_features` makes them one.

    Raises:
        RuntimeError: the encoder changed under way, so it was not frozen.
    """
    sequences, num_windows = loader.dataset.cache.sequences, settings.num_windows
    requests = even_requests(loader.dataset.clips, sequences, chosen, num_windows=num_windows, seed=settings.seed)
    step = max(1, BATCH // num_windows) * num_windows
    with frozen(encoder.to(device)):
        for batch in loader.load(in_batches(requests, step)):
            points = batch.points if corruption is None else corruption.apply(batch.points, batch.generator())
            with torch.no_grad():
                pooled = pool(encoder(points.to(device)).features, pooling).cpu()
            videos = batch.sequences[::num_windows]
            yield VideoFeatures(
                features=pooled.unflatten(0, (-1, num_windows)),
                actions=batch.actions[::num_windows],
                ids=tuple(sequences[index].id for index in videos.tolist()),
            )


@contextmanager
def frozen(encoder: Encoder) -> Iterator[None]:
    """Evaluation mode, in which features are finite; in the end no weight may differ.

    Raises:
        CheckpointError: features are not finite.
        RuntimeError: the encoder changed under way.
    """
    before = weights_digest(encoder.eval())
    with finite_features(encoder):
        yield
    if weights_digest(encoder) != before:
        raise RuntimeError("the encoder's weights or buffers changed during the extraction of frozen features")


def join_features(parts: Sequence[VideoFeatures]) -> VideoFeatures:
    """The videos of several batches as one."""
    return VideoFeatures(
        features=torch.cat([part.features for part in parts]),
        actions=torch.cat([part.actions for part in parts]),
        ids=tuple(id for part in parts for id in part.ids),
    )


def labelled(videos: VideoFeatures) -> VideoFeatures:
    """Those videos whose action is known."""
    keep = videos.actions != UNLABELLED
    ids = tuple(id for id, kept in zip(videos.ids, keep.tolist(), strict=True) if kept)
    return VideoFeatures(features=videos.features[keep], actions=videos.actions[keep], ids=ids)


class FeatureSettings(EvaluationSettings):
    """How tokens become the feature of a clip."""

    pooling: Pooling = "mean"


Settings = TypeVar("Settings", bound=FeatureSettings)
Result = TypeVar("Result", bound=EvaluationResult, covariant=True)


class FeatureEvaluation(Evaluation[Settings, Result]):
    """An evaluation of the frozen features of labelled videos, which `run` computes and the result judges."""

    def __init__(self, source: EncoderSource, dataset: ClipDataset, settings: Settings) -> None:
        super().__init__(source, dataset, settings)
        self._parts: dict[str, list[VideoFeatures]] = {"train": [], "test": []}

    @property
    def total(self) -> int:
        """Videos of both sides."""
        return len(self.train) + len(self.test)

    def run(self, resources: Resources) -> Iterator[str]:
        """Compute the frozen features; yields the id of each video that is done."""
        self.resources = resources
        encoder, loader = self.source.encoder, resources.loader(self.dataset)
        for side, chosen in (("train", self.train), ("test", self.test)):
            for part in extract_features(encoder, loader, chosen, self.settings, resources.torch_device, pooling=self.settings.pooling):
                self._parts[side].append(part)
                yield from part.ids

    def features(self) -> tuple[VideoFeatures, VideoFeatures]:
        """Those of the labelled videos of the training and of the test side, once `run` has ended."""
        train, test = (labelled(join_features(self._parts[side])) for side in ("train", "test"))
        return train, test

    def remarks(self) -> list[str]:
        """As of every evaluation, and what its features lack."""
        return super().remarks() + feature_remarks(*self.features())


def feature_remarks(train: VideoFeatures, test: VideoFeatures) -> list[str]:
    """What makes a classifier of these features say little, a line each."""
    lines = []
    if all_alike(torch.cat([train.features, test.features])):
        lines.append("all features are alike: the encoder tells no clip from another")
    if len(test.ids) == 1:
        lines.append("the test side has a single video: its accuracy is 0 or 1")
    elif len(set(test.actions.tolist())) == 1:
        lines.append("all test videos have the same action: a constant would have them right")
    return lines


def weights_digest(encoder: Encoder) -> str:
    """Hash of every parameter and buffer."""
    digest = hashlib.sha256()
    for name, value in [*encoder.named_parameters(), *encoder.named_buffers()]:
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
