"""Objectives with a teacher: predictions for conditioned features of a store (section 2 of the method)."""

from typing import ClassVar

from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional

from cross4d_train.conditioning import Conditioning, Source
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.objectives.objective import Objective, ObjectiveSettings, Scalars, TargetSpec

EPSILON = 1e-4
"""Keeps the gradient of a standard deviation finite where all predictions agree."""


class Distillation(Objective):
    """An objective whose targets come from a store; their conditioning is to be fitted before training.

    Without any target the loss is zero and still back-propagates. Targets get no gradient.
    """

    source: ClassVar[Source]
    """Which features of a store are the targets."""

    def __init__(self, settings: ObjectiveSettings, encoder: Encoder, targets: TargetSpec) -> None:
        super().__init__(settings, encoder, targets)
        self.variance_weight = settings.variance_weight
        self.conditioning = Conditioning(
            settings.conditioning,
            target_channels=targets.channels,
            num_patches=targets.num_patches if self.source == "patches" else None,
        )
        self.head = nn.Linear(encoder.channels, self.conditioning.channels)

    def distil(
        self,
        predictions: Float32[Tensor, "*item channel"],
        targets: Float32[Tensor, "*item channel"],
        weights: Float32[Tensor, "*item"],
    ) -> tuple[Float32[Tensor, ""], Scalars]:
        """`1 - cos` of predictions and targets plus the weighted variance term (equation 6), over items of weight 1, not 0.

        Weights instead of a selection: every shape stays fixed, and no target at all means a loss of zero. Of the scalars, `cosine` is
        the mean similarity of prediction and target, `variance` the unweighted variance term, `visible` the share of items of weight 1.
        """
        visible = weights.mean()
        weights = weights / weights.sum().clamp(min=1)
        cosine = (weights * functional.cosine_similarity(predictions, targets, dim=-1)).sum()
        variance = variance_term(predictions.flatten(0, -2), weights.flatten())
        loss = weights.sum() - cosine + self.variance_weight * variance
        return loss, {"cosine": cosine.detach(), "variance": variance.detach(), "visible": visible}


def variance_term(predictions: Float32[Tensor, "item channel"], weights: Float32[Tensor, " item"]) -> Float32[Tensor, ""]:
    """Mean over channels of `relu(1 - std)` (equation 5), over the items that have weight; zero if none has."""
    weights = weights.unsqueeze(-1)
    mean = (weights * predictions).sum(dim=0)
    variance = (weights * (predictions - mean).square()).sum(dim=0)
    return functional.relu(1 - (variance + EPSILON).sqrt()).mean() * (weights.sum() > 0)
