"""Fine-tuning: an encoder, trained or not, and a linear head learn the actions of some labelled videos together (table 4 of the paper)."""

import copy
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import nn

from cross4d_cache.record import Record
from cross4d_cache.types import UNLABELLED, SequenceInfo
from cross4d_train.augment import augment
from cross4d_train.clips import ClipRequest, epoch_requests, even_requests
from cross4d_train.data import Batch, BatchLoader, in_batches
from cross4d_train.dataset import ClipDataset
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.evaluation.base import Evaluation, EvaluationResult, EvaluationSettings, VideoPrediction
from cross4d_train.evaluation.encoder_source import EncoderSource
from cross4d_train.evaluation.features import BATCH
from cross4d_train.evaluation.heads import AUGMENTATION, Answers, HeadTraining, recompute_norm
from cross4d_train.evaluation.linear import accuracy, check_labels
from cross4d_train.initialise import Seed, build_seeded
from cross4d_train.resources import Resources

CPU = torch.device("cpu")


class Schedule(Record):
    """How encoder and head are trained: the rate falls along half a cosine. Test videos are looked at every `test_every` epochs."""

    num_epochs: int = Field(default=60, ge=1, le=100_000)
    batch_size: int = Field(default=12, ge=3, le=10_000)
    learning_rate: float = Field(default=1e-3, gt=0, le=100, allow_inf_nan=False)
    weight_decay: float = Field(default=0.05, ge=0, le=100, allow_inf_nan=False)
    num_windows: int = Field(default=3, ge=1, le=10_000)
    test_every: int = Field(default=10, ge=1, le=100_000)


Fraction = Annotated[float, Field(gt=0, le=1)]


class TuningSettings(Schedule):
    """One training. `fraction` of the training videos are labelled, the same number of every action and at least one."""

    fraction: Fraction = 0.1
    seed: Seed = 0


class EpochScore(Record):
    """Accuracy on the training clips of an epoch and, if it was tested, on the test videos, by the softmax summed over their windows."""

    num_labelled: int
    train_accuracy: float
    video_accuracy: float | None
    predictions: tuple[VideoPrediction, ...]


class TuningScore(Record):
    """The last epoch's accuracy, which is the one to quote; `best_test_epoch` is what the field quotes, and test videos chose it."""

    fraction: float
    num_labelled: int
    train_accuracy: float
    video_accuracy: float
    best_test_epoch: float
    predictions: tuple[VideoPrediction, ...]


def choose_labelled(sequences: Sequence[SequenceInfo], chosen: Sequence[int], *, fraction: float, seed: int) -> tuple[int, ...]:
    """A class-balanced subset of the training sequences, the same for the same seed."""
    rng = np.random.default_rng(seed)
    of_action: dict[int, list[int]] = {}
    for index in chosen:
        of_action.setdefault(sequences[index].action, []).append(index)
    if fraction == 1:
        return tuple(sorted(chosen))  # classes may differ in size, and no label is to be left out
    per_class = max(1, round(fraction * len(chosen) / len(of_action)))
    subset: list[int] = []
    for action in sorted(of_action):
        subset += rng.permutation(of_action[action])[:per_class].tolist()
    return tuple(sorted(subset))


def finetune(
    encoder: Encoder,
    loader: BatchLoader,
    *,
    train: Sequence[int],
    test: Sequence[int],
    settings: TuningSettings,
    device: torch.device = CPU,
) -> Iterator[EpochScore]:
    """Train `encoder` in place on a labelled subset of `train`, and score it on `test`. Yields after every epoch.

    Raises:
        SettingsError: labels that no classifier can work with.
    """
    dataset, sequences = loader.dataset, loader.dataset.cache.sequences
    check_labels([sequences[index].action for index in train], [sequences[index].action for index in test])
    train, test = ([index for index in side if sequences[index].action != UNLABELLED] for side in (train, test))
    labelled = choose_labelled(sequences, train, fraction=settings.fraction, seed=settings.seed)
    classes = torch.tensor(sorted({sequences[index].action for index in labelled}))
    encoder = encoder.to(device)
    # Without statistics of their own, features of a new and of a trained encoder would meet the head at different scales.
    norm = nn.BatchNorm1d(encoder.channels, affine=False)
    head = nn.Sequential(norm, build_seeded(lambda: nn.Linear(encoder.channels, len(classes)), settings.seed)).to(device)
    training = HeadTraining([*encoder.parameters(), *head.parameters()], settings)
    generator = torch.Generator().manual_seed(settings.seed)

    def answer(batch: Batch) -> Answers:
        logits = head(encoder(augment(batch.points, AUGMENTATION, generator).to(device)).features.float().mean(dim=1))
        return logits, torch.searchsorted(classes, batch.actions).to(device)

    for epoch in range(settings.num_epochs):
        correct, seen = 0, 0
        encoder.train()
        head.train()
        requests = epoch_requests(dataset.clips, sequences, labelled, clips_per_sequence=1, seed=settings.seed, epoch=epoch)
        batches = loader.load(_even_batches(requests, settings.batch_size))
        for batch, answers in training.run_epoch(epoch, batches, answer):
            assert answers is not None
            logits, target = answers
            correct, seen = correct + int((logits.argmax(dim=-1) == target).sum()), seen + len(batch)
        encoder.eval()
        head.eval()
        tested: tuple[VideoPrediction, ...] = ()
        if epoch == settings.num_epochs - 1 or (epoch + 1) % settings.test_every == 0:
            recompute_norm(norm, encoder, loader.load(in_batches(requests, BATCH)), device)
            tested = _predict(encoder, head, classes, loader, test, settings, device)
        yield EpochScore(
            num_labelled=len(labelled),
            train_accuracy=correct / seen,
            video_accuracy=accuracy(tested) if tested else None,
            predictions=tested,
        )


@torch.no_grad()
def _predict(
    encoder: Encoder,
    head: nn.Module,
    classes: torch.Tensor,
    loader: BatchLoader,
    test: Sequence[int],
    settings: TuningSettings,
    device: torch.device,
) -> tuple[VideoPrediction, ...]:
    sequences = loader.dataset.cache.sequences
    videos = even_requests(loader.dataset.clips, sequences, test, num_windows=settings.num_windows, seed=settings.seed)
    step = max(1, BATCH // settings.num_windows) * settings.num_windows
    found: list[VideoPrediction] = []
    for batch in loader.load(in_batches(videos, step)):
        shares = head(encoder(batch.points.to(device)).features.float().mean(dim=1)).softmax(dim=-1).cpu()
        guesses = classes[shares.unflatten(0, (-1, settings.num_windows)).sum(dim=1).argmax(dim=-1)]
        for index, action, guess in zip(
            batch.sequences[:: settings.num_windows].tolist(),
            batch.actions[:: settings.num_windows].tolist(),
            guesses.tolist(),
            strict=True,
        ):
            found.append(VideoPrediction(id=sequences[index].id, action=action, predicted=guess))
    return tuple(found)


def tuning_score(epochs: Sequence[EpochScore], settings: TuningSettings) -> TuningScore:
    """The score of a finished training."""
    last = epochs[-1]
    assert last.video_accuracy is not None
    return TuningScore(
        fraction=settings.fraction,
        num_labelled=last.num_labelled,
        train_accuracy=last.train_accuracy,
        video_accuracy=last.video_accuracy,
        best_test_epoch=max(epoch.video_accuracy for epoch in epochs if epoch.video_accuracy is not None),
        predictions=last.predictions,
    )


def _even_batches(items: Sequence[ClipRequest], size: int) -> list[Sequence[ClipRequest]]:
    """Batches of at most `size` whose sizes differ by one at most: none is left with a single clip, which has no variance."""
    bounds = np.linspace(0, len(items), math.ceil(len(items) / size) + 1).astype(np.int64)
    return [items[start:stop] for start, stop in pairwise(bounds)]


class FinetuneSettings(Schedule, EvaluationSettings):
    """One training for each fraction of the labels; `seed` also draws the labelled videos."""

    fractions: tuple[Fraction, ...] = (0.1, 0.25, 0.5, 1.0)

    def tuning(self, fraction: float) -> TuningSettings:
        """The settings of one training."""
        shared = self.model_dump(include=set(TuningSettings.model_fields))
        return TuningSettings(fraction=fraction, **shared)


class FinetuneResult(EvaluationResult):
    """A score for every fraction of the labels."""

    settings: FinetuneSettings
    scores: tuple[TuningScore, ...]

    def describe(self) -> str:
        """A line for each fraction."""
        settings = self.settings
        lines = [
            self.heading("fine-tuning", settings.protocol),
            f"AdamW, rate {settings.learning_rate:g}, {settings.num_epochs} epochs, {settings.num_windows} windows a video, "
            f"seed {settings.seed}",
            "labels   videos   last epoch   best test epoch (chosen on the test videos)   training accuracy",
        ]
        for score in self.scores:
            lines.append(
                f"{score.fraction:6.0%}{score.num_labelled:9}{score.video_accuracy:13.3f}{score.best_test_epoch:18.3f}{score.train_accuracy:48.3f}"
            )
        return "\n".join(lines)


class Finetuning(Evaluation[FinetuneSettings, FinetuneResult]):
    """An encoder and a head trained on part of the labels, for each of several fractions of them."""

    name = "finetune"
    unit = "epoch"

    def __init__(self, source: EncoderSource, dataset: ClipDataset, settings: FinetuneSettings) -> None:
        super().__init__(source, dataset, settings)
        check_labels(self.actions(self.train), self.actions(self.test))
        self.tunings = [settings.tuning(fraction) for fraction in settings.fractions]
        self._scores: list[TuningScore] = []

    @property
    def total(self) -> int:
        """Epochs of all trainings."""
        return self.settings.num_epochs * len(self.settings.fractions)

    def run(self, resources: Resources) -> Iterator[EpochScore]:
        """Train anew for every fraction; yields after each epoch."""
        self.resources = resources
        loader = resources.loader(self.dataset)
        for tuning in self.tunings:
            encoder, epochs = copy.deepcopy(self.source.encoder), []
            for epoch in finetune(encoder, loader, train=self.train, test=self.test, settings=tuning, device=resources.torch_device):
                epochs.append(epoch)
                yield epoch
            self._scores.append(tuning_score(epochs, tuning))

    def result(self) -> FinetuneResult:
        """All scores."""
        return FinetuneResult(**self.provenance() | self.count_labelled(), settings=self.settings, scores=tuple(self._scores))
