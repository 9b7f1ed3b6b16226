"""A linear classifier on frozen, mean-pooled features, with standardisation off or on."""

from collections.abc import Container, Sequence

import torch
from jaxtyping import Bool, Float32, Int64
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from cross4d_cache.errors import SettingsError
from cross4d_cache.types import UNLABELLED
from cross4d_train.evaluation.features import VideoFeatures
from cross4d_train.initialise import Seed, build_seeded


class HeadSettings(BaseModel):
    """How the head is trained. On raw features the accuracy depends on the rate, so all of it goes into every result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimizer: str = Field(default="AdamW", pattern="^AdamW$")
    learning_rate: float = Field(default=1e-3, gt=0, le=100, allow_inf_nan=False)
    weight_decay: float = Field(default=1e-4, ge=0, le=100, allow_inf_nan=False)
    num_epochs: int = Field(default=300, ge=1, le=1_000_000)
    batch_size: int = Field(default=64, ge=1, le=1_000_000)
    seed: Seed = 0


class VideoPrediction(BaseModel):
    """What one head said of one test video."""

    id: str
    action: int
    predicted: int


class HeadScore(BaseModel):
    """Accuracy of one head. A video's class is that of the softmax summed over its windows."""

    train_accuracy: float
    clip_accuracy: float
    video_accuracy: float
    predictions: tuple[VideoPrediction, ...]

    def accuracy_over(self, ids: Container[str]) -> float | None:
        """Video accuracy over some of the test videos only; None if it is none of them."""
        hits = [item.action == item.predicted for item in self.predictions if item.id in ids]
        return sum(hits) / len(hits) if hits else None


def labelled(videos: VideoFeatures) -> VideoFeatures:
    """Those videos whose action is known."""
    keep = videos.actions != UNLABELLED
    ids = tuple(id for id, kept in zip(videos.ids, keep.tolist(), strict=True) if kept)
    return VideoFeatures(features=videos.features[keep], actions=videos.actions[keep], ids=ids)


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
            hint="choose another --protocol, or build a store with more sequences",
        )
    missing = sorted(asked - known)
    if missing:
        raise SettingsError(
            f"the test side has {len(missing)} actions that the training side lacks: {missing[:5]}",
            expected="every class on both sides",
            hint="choose another --protocol, or build a store with more sequences",
        )


def fit_head(train: VideoFeatures, test: VideoFeatures, settings: HeadSettings, *, standardise: bool) -> HeadScore:
    """Train a head on the windows of labelled training videos and score it on labelled test videos.

    Standardisation takes mean and deviation from the training windows alone. A class is any action of the training videos.

    Raises:
        SettingsError: see `check_labels`.
    """
    check_labels(train.actions.tolist(), test.actions.tolist())
    mean, deviation = torch.zeros(()), torch.ones(())
    if standardise:
        windows = train.features.flatten(0, 1)
        mean, deviation = windows.mean(dim=0), windows.std(dim=0, correction=0).clamp(min=1e-6)
    classes = torch.tensor(sorted(set(train.actions.tolist())))
    targets = torch.searchsorted(classes, train.actions)
    features = (train.features - mean) / deviation
    head = _train_head(features, targets, len(classes), settings)
    with torch.no_grad():
        train_logits, test_logits = head(features), head((test.features - mean) / deviation)
    predicted = classes[test_logits.softmax(dim=-1).sum(dim=1).argmax(dim=-1)]
    return HeadScore(
        train_accuracy=_share(classes[train_logits.argmax(dim=-1)] == train.actions.unsqueeze(1)),
        clip_accuracy=_share(classes[test_logits.argmax(dim=-1)] == test.actions.unsqueeze(1)),
        video_accuracy=_share(predicted == test.actions),
        predictions=tuple(
            VideoPrediction(id=id, action=action, predicted=guess)
            for id, action, guess in zip(test.ids, test.actions.tolist(), predicted.tolist(), strict=True)
        ),
    )


def _train_head(
    features: Float32[Tensor, "video window channel"],
    targets: Int64[Tensor, " video"],
    num_classes: int,
    settings: HeadSettings,
) -> nn.Linear:
    windows = features.flatten(0, 1)
    labels = targets.repeat_interleave(features.shape[1])
    head = build_seeded(lambda: nn.Linear(windows.shape[1], num_classes), settings.seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    generator = torch.Generator().manual_seed(settings.seed)
    for _ in range(settings.num_epochs):
        order = torch.randperm(len(windows), generator=generator)
        for start in range(0, len(order), settings.batch_size):
            batch = order[start : start + settings.batch_size]
            optimizer.zero_grad()
            functional.cross_entropy(head(windows[batch]), labels[batch]).backward()
            optimizer.step()
    return head


def _share(correct: Bool[Tensor, "..."]) -> float:
    return float(correct.float().mean())
