"""A linear classifier on frozen, pooled features, with standardisation off or on."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from cross4d_cache.errors import SettingsError
from cross4d_cache.record import Record
from cross4d_cache.types import UNLABELLED
from cross4d_train.evaluation.base import VideoPrediction
from cross4d_train.evaluation.features import VideoFeatures
from cross4d_train.initialise import Seed, build_seeded
from cross4d_train.soundness import check_loss


class HeadSettings(Record):
    """How the head is trained. On raw features the accuracy depends on the rate, so all of it goes into every result."""

    optimizer: str = Field(default="AdamW", pattern="^AdamW$")
    learning_rate: float = Field(default=1e-3, gt=0, le=100, allow_inf_nan=False)
    weight_decay: float = Field(default=1e-4, ge=0, le=100, allow_inf_nan=False)
    num_epochs: int = Field(default=300, ge=1, le=1_000_000)
    batch_size: int = Field(default=64, ge=1, le=1_000_000)
    seed: Seed = 0


class HeadScore(Record):
    """Accuracy of one head. A video's class is that of the softmax summed over its windows."""

    train_accuracy: float
    clip_accuracy: float
    video_accuracy: float
    predictions: tuple[VideoPrediction, ...]

    def accuracy_over(self, ids: Container[str]) -> float | None:
        """Video accuracy over some of the test videos only; None if it is none of them."""
        hits = [item.action == item.predicted for item in self.predictions if item.id in ids]
        return sum(hits) / len(hits) if hits else None


def check_labels(train: Sequence[int], test: Sequence[int]) -> None:
    """Refuse labels no probe can work with, before any feature is computed.

    Raises:
        SettingsError: no labels, a single class, or a test class that training never shows.
    """
    known, asked = set(train) - {UNLABELLED}, set(test) - {UNLABELLED}
    if not known or not asked:
        side = "training" if not known else "test"
        raise SettingsError(f"no video on the {side} side has an action label", hint="probe a store of a dataset with actions")
    if len(known) == 1:
        raise SettingsError(
            f"all training videos have the same action, {min(known)}",
            expected="at least two classes",
            hint="choose another `protocol`, or build a store with more sequences",
        )
    missing = sorted(asked - known)
    if missing:
        raise SettingsError(
            f"the test side has {len(missing)} actions that the training side lacks: {missing[:5]}",
            expected="every class on both sides",
            hint="choose another `protocol`, or build a store with more sequences",
        )


@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """A trained head: what standardises features, a linear layer, and the action of each of its outputs."""

    mean: Float32[Tensor, "*channel"]
    deviation: Float32[Tensor, "*channel"]
    layer: nn.Linear
    classes: Int64[Tensor, " class"]

    @torch.no_grad()
    def logits(self, videos: VideoFeatures) -> Float32[Tensor, "video window class"]:
        """Of every window."""
        logits: Tensor = self.layer((videos.features - self.mean) / self.deviation)
        return logits

    def clip_accuracy(self, videos: VideoFeatures) -> float:
        """Share of windows that are right."""
        return _share(self.classes[self.logits(videos).argmax(dim=-1)] == videos.actions.unsqueeze(1))

    def predict(self, videos: VideoFeatures) -> tuple[VideoPrediction, ...]:
        """The class of every video, that of the softmax summed over its windows."""
        predicted = self.classes[self.logits(videos).softmax(dim=-1).sum(dim=1).argmax(dim=-1)]
        return predictions(videos, predicted)


def predictions(videos: VideoFeatures, predicted: Int64[Tensor, " video"]) -> tuple[VideoPrediction, ...]:
    """Predicted actions beside the true ones."""
    return tuple(
        VideoPrediction(id=id, action=action, predicted=guess)
        for id, action, guess in zip(videos.ids, videos.actions.tolist(), predicted.tolist(), strict=True)
    )


def accuracy(predicted: Sequence[VideoPrediction]) -> float:
    """Share of videos that are right."""
    return sum(item.action == item.predicted for item in predicted) / len(predicted)


def train_head(train: VideoFeatures, settings: HeadSettings, *, standardise: bool) -> LinearHead:
    """Train a head on the windows of labelled training videos.

    Standardisation takes mean and deviation from these windows alone. A class is any action of theirs.
    """
    windows = train.features.flatten(0, 1)
    mean, deviation = moments(windows) if standardise else (torch.zeros(()), torch.ones(()))
    classes = torch.tensor(sorted(set(train.actions.tolist())))
    targets = torch.searchsorted(classes, train.actions).repeat_interleave(train.features.shape[1])
    layer = _train_layer((windows - mean) / deviation, targets, len(classes), settings)
    return LinearHead(mean=mean, deviation=deviation, layer=layer, classes=classes)


def moments(features: Float32[Tensor, "item channel"]) -> tuple[Float32[Tensor, " channel"], Float32[Tensor, " channel"]]:
    """Mean and deviation of every channel, the latter never 0."""
    return features.mean(dim=0), features.std(dim=0, correction=0).clamp(min=1e-6)


def fit_head(train: VideoFeatures, test: VideoFeatures, settings: HeadSettings, *, standardise: bool) -> HeadScore:
    """Train a head on labelled training videos and score it on labelled test videos.

    Raises:
        SettingsError: see `check_labels`.
    """
    check_labels(train.actions.tolist(), test.actions.tolist())
    head = train_head(train, settings, standardise=standardise)
    predicted = head.predict(test)
    return HeadScore(
        train_accuracy=head.clip_accuracy(train),
        clip_accuracy=head.clip_accuracy(test),
        video_accuracy=accuracy(predicted),
        predictions=predicted,
    )


def _train_layer(
    windows: Float32[Tensor, "window channel"], labels: Int64[Tensor, " window"], num_classes: int, settings: HeadSettings
) -> nn.Linear:
    layer = build_seeded(lambda: nn.Linear(windows.shape[1], num_classes), settings.seed)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    generator = torch.Generator().manual_seed(settings.seed)
    for _ in range(settings.num_epochs):
        order = torch.randperm(len(windows), generator=generator)
        for start in range(0, len(order), settings.batch_size):
            batch = order[start : start + settings.batch_size]
            optimizer.zero_grad()
            loss = functional.cross_entropy(layer(windows[batch]), labels[batch])
            check_loss(loss)
            loss.backward()
            optimizer.step()
    return layer


def _share(correct: Bool[Tensor, "..."]) -> float:
    return float(correct.float().mean())
