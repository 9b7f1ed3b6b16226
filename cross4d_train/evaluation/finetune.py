"""Fine-tuning: an encoder, trained or not, and a linear head learn the actions of a few labelled videos together."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn import functional

from cross4d_cache.types import UNLABELLED, SequenceInfo
from cross4d_train.augment import Augmentation, augment
from cross4d_train.clips import ClipRequest, epoch_requests, even_requests
from cross4d_train.data import ClipDataset, load_batches
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.evaluation.linear import check_labels
from cross4d_train.initialise import Seed, build_seeded

AUGMENTATION = Augmentation(scale=0.1, yaw_degrees=15.0, jitter_metres=0.005)


class FinetuneSettings(BaseModel):
    """`fraction` of the training videos are labelled, the same number of every action and at least one.

    The learning rate falls along half a cosine; the accuracy is that of the last epoch, never the best one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fraction: float = Field(default=0.1, gt=0, le=1)
    num_epochs: int = Field(default=60, ge=1, le=100_000)
    batch_size: int = Field(default=12, ge=3, le=10_000)
    learning_rate: float = Field(default=1e-3, gt=0, le=100)
    weight_decay: float = Field(default=0.05, ge=0, le=100)
    num_windows: int = Field(default=3, ge=1, le=10_000)
    seed: Seed = 0


class FinetuneScore(BaseModel):
    """Accuracy over test videos, and on the clips of the last epoch of training; a video's class is that of the summed softmax."""

    num_labelled: int
    train_accuracy: float
    video_accuracy: float


def choose_labelled(sequences: Sequence[SequenceInfo], chosen: Sequence[int], *, fraction: float, seed: int) -> tuple[int, ...]:
    """A class-balanced subset of the training sequences, the same for the same seed."""
    rng = np.random.default_rng(seed)
    of_action: dict[int, list[int]] = {}
    for index in chosen:
        of_action.setdefault(sequences[index].action, []).append(index)
    per_class = max(1, round(fraction * len(chosen) / len(of_action)))
    subset: list[int] = []
    for action in sorted(of_action):
        subset += rng.permutation(of_action[action])[:per_class].tolist()
    return tuple(sorted(subset))


def finetune(
    encoder: Encoder, dataset: ClipDataset, *, train: Sequence[int], test: Sequence[int], settings: FinetuneSettings
) -> FinetuneScore:
    """Train `encoder` in place on a labelled subset of `train`, on the CPU, and score it on `test`.

    Raises:
        SettingsError: labels that no classifier can work with.
    """
    sequences = dataset.cache.sequences
    check_labels([sequences[index].action for index in train], [sequences[index].action for index in test])
    train, test = ([index for index in side if sequences[index].action != UNLABELLED] for side in (train, test))
    labelled = choose_labelled(sequences, train, fraction=settings.fraction, seed=settings.seed)
    classes = torch.tensor(sorted({sequences[index].action for index in labelled}))
    # Without statistics of their own, features of a new and of a trained encoder would meet the head at different scales.
    head = nn.Sequential(
        nn.BatchNorm1d(encoder.channels, affine=False),
        build_seeded(lambda: nn.Linear(encoder.channels, len(classes)), settings.seed),
    )
    optimizer = torch.optim.AdamW(
        [*encoder.parameters(), *head.parameters()], lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    generator = torch.Generator().manual_seed(settings.seed)
    correct, seen = 0, 0
    encoder.train()
    head.train()
    for epoch in range(settings.num_epochs):
        correct, seen = 0, 0
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * epoch / settings.num_epochs)) / 2
        requests = epoch_requests(dataset.clips, sequences, labelled, clips_per_sequence=1, seed=settings.seed, epoch=epoch)
        for batch in load_batches(dataset, _even_batches(requests, settings.batch_size)):
            logits = head(encoder(augment(batch.points, AUGMENTATION, generator)).features.mean(dim=1))
            target = torch.searchsorted(classes, batch.actions)
            optimizer.zero_grad()
            functional.cross_entropy(logits, target).backward()
            optimizer.step()
            correct, seen = correct + int((logits.argmax(dim=-1) == target).sum()), seen + len(batch)
    encoder.eval()
    head.eval()
    videos = even_requests(dataset.clips, sequences, test, num_windows=settings.num_windows, seed=settings.seed)
    step = 4 * settings.num_windows
    right = 0
    for batch in load_batches(dataset, [videos[start : start + step] for start in range(0, len(videos), step)]):
        with torch.no_grad():
            shares = head(encoder(batch.points).features.mean(dim=1)).softmax(dim=-1)
        summed = shares.unflatten(0, (-1, settings.num_windows)).sum(dim=1)
        right += int((classes[summed.argmax(dim=-1)] == batch.actions[:: settings.num_windows]).sum())
    return FinetuneScore(num_labelled=len(labelled), train_accuracy=correct / seen, video_accuracy=right / len(test))


def _even_batches(items: Sequence[ClipRequest], size: int) -> list[Sequence[ClipRequest]]:
    """Batches of at most `size` whose sizes differ by one at most: none is left with a single clip, which has no variance."""
    bounds = np.linspace(0, len(items), math.ceil(len(items) / size) + 1).astype(np.int64)
    return [items[start:stop] for start, stop in pairwise(bounds)]
