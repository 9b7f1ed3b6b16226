"""Linear heads on encoders, and the one loop that trains them, alone or together with the encoder."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn
from torch.nn import functional

from cross4d_train.augment import Augmentation
from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.initialise import build_seeded
from cross4d_train.soundness import check_loss

AUGMENTATION = Augmentation(scale=0.1, yaw_degrees=15.0, jitter_metres=0.005)
"""Of training clips where the encoder is trained too."""

Answers = tuple[Float32[Tensor, "item class"], Int64[Tensor, " item"]]
"""Logits of what has a label in a batch, and the labels."""


@runtime_checkable
class HeadSchedule(Protocol):
    """How a head is trained: the rate falls along half a cosine over the epochs."""

    @property
    def num_epochs(self) -> int:
        """How often all training clips are seen."""

    @property
    def learning_rate(self) -> float:
        """The rate of the first epoch."""

    @property
    def weight_decay(self) -> float:
        """That of AdamW."""


class HeadTraining:
    """AdamW on the parameters of a head and, if it is trained too, of the encoder."""

    def __init__(self, learned: Iterable[nn.Parameter], schedule: HeadSchedule) -> None:
        self.schedule = schedule
        self._optimizer = torch.optim.AdamW(learned, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)

    def run_epoch(
        self, epoch: int, batches: Iterable[Batch], answer: Callable[[Batch], Answers | None]
    ) -> Iterator[tuple[Batch, Answers | None]]:
        """Train on the batches of an epoch, counted from 0; yields each with its answers, None if nothing in it has a label.

        Raises:
            SettingsError: the loss is not finite.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate * (1 + math.cos(math.pi * epoch / self.schedule.num_epochs)) / 2
        for batch in batches:
            answers = answer(batch)
            if answers is not None:
                self._optimizer.zero_grad()
                loss = functional.cross_entropy(*answers)
                check_loss(loss)
                loss.backward()
                self._optimizer.step()
            yield batch, answers


class SegmentHead(nn.Module):
    """A linear layer on standardised features, as those of different encoders have different scales.

    In training mode a batch is standardised by itself; later by the mean over all batches since `forget`.
    """

    def __init__(self, channels: int, num_classes: int, seed: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels, affine=False, momentum=None)
        self.layer = build_seeded(lambda: nn.Linear(channels, num_classes), seed)

    def forget(self) -> None:
        """Begin to gather statistics anew."""
        self.norm.reset_running_stats()
        self.train()

    def forward(self, features: Float32[Tensor, "batch token channel"]) -> Float32[Tensor, "batch token class"]:
        """Logits of every token."""
        normed: Tensor = self.norm(features.float().flatten(0, 1)).view_as(features)
        logits: Tensor = self.layer(normed)
        return logits


@torch.no_grad()
def recompute_norm(norm: nn.BatchNorm1d, encoder: Encoder, batches: Iterable[Batch], device: torch.device) -> None:
    """Give the norm mean and variance of the labelled clips as the encoder sees them now; running ones lag, and after the few steps that a
    few labels make they still are what they began with.
    """
    features = torch.cat([encoder(batch.points.to(device)).features.float().mean(dim=1) for batch in batches])
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(features.mean(dim=0))
    norm.running_var.copy_(features.var(dim=0, correction=0))
