"""What a pre-training objective is: tokens and the batch they came from in, one loss out."""

from abc import ABC, abstractmethod
from typing import ClassVar, TypedDict

from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from cross4d_train.conditioning import Conditioning, ConditioningName, Source
from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Tokens

EPSILON = 1e-4
"""Keeps the gradient of a standard deviation finite where all predictions agree."""


class Scalars(TypedDict):
    """What an objective reports beside its loss, each a detached scalar.

    `cosine` is the mean similarity of prediction and target, `variance` the unweighted variance term, `visible` the share of
    tokens that have a target.
    """

    cosine: Float32[Tensor, ""]
    variance: Float32[Tensor, ""]
    visible: Float32[Tensor, ""]


class ObjectiveSettings(BaseModel):
    """Which objective, the weight of its variance term (lambda), and what is done to the targets first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "dense"
    variance_weight: float = Field(default=1.0, ge=0, le=1_000_000, allow_inf_nan=False)
    conditioning: ConditioningName = "whiten:32"


class Objective(nn.Module, ABC):
    """A pre-training objective with its own head and the conditioning of its targets, to be fitted before training.

    The loss is finite float32 whatever the batch: without any target it is zero and still back-propagates. Targets get no
    gradient.
    """

    source: ClassVar[Source]
    """Which features of a store are the targets."""

    def __init__(self, settings: ObjectiveSettings, *, channels: int, target_channels: int, num_patches: int) -> None:
        super().__init__()
        self.variance_weight = settings.variance_weight
        self.conditioning = Conditioning(
            settings.conditioning,
            target_channels=target_channels,
            num_patches=num_patches if self.source == "patches" else None,
        )
        self.head = nn.Linear(channels, self.conditioning.channels)

    @abstractmethod
    def forward(self, tokens: Tokens, batch: Batch) -> tuple[Float32[Tensor, ""], Scalars]:
        """The loss of a batch whose tokens the encoder made."""

    def distil(
        self,
        predictions: Float32[Tensor, "*item channel"],
        targets: Float32[Tensor, "*item channel"],
        weights: Float32[Tensor, "*item"],
    ) -> tuple[Float32[Tensor, ""], Scalars]:
        """`1 - cos` of predictions and targets plus the weighted variance term (equation 6), over items of weight 1, not 0.

        Weights instead of a selection: every shape stays fixed, and no target at all means a loss of zero.
        """
        visible = weights.mean()
        weights = weights / weights.sum().clamp(min=1)
        cosine = (weights * functional.cosine_similarity(predictions, targets, dim=-1)).sum()
        variance = variance_term(predictions.flatten(0, -2), weights.flatten())
        loss = weights.sum() - cosine + self.variance_weight * variance
        return loss, Scalars(cosine=cosine.detach(), variance=variance.detach(), visible=visible)


def variance_term(predictions: Float32[Tensor, "item channel"], weights: Float32[Tensor, " item"]) -> Float32[Tensor, ""]:
    """Mean over channels of `relu(1 - std)` (equation 5), over the items that have weight; zero if none has."""
    weights = weights.unsqueeze(-1)
    mean = (weights * predictions).sum(dim=0)
    variance = (weights * (predictions - mean).square()).sum(dim=0)
    return functional.relu(1 - (variance + EPSILON).sqrt()).mean() * (weights.sum() > 0)
