"""The global baseline (section 3): the mean of a clip's tokens predicts the mean of the teacher's embeddings of its frames."""

from jaxtyping import Float32
from torch import Tensor

from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.objectives.distillation import Distillation
from cross4d_train.objectives.objective import ObjectiveSettings, Scalars, TargetSpec

EPSILON = 1e-5
"""Within the deviation of mean tokens, as in a batch norm."""


class GlobalDistillation(Distillation):
    """One target a clip. Its spread over a batch is that of a few clips, so the variance term is noisier than in dense.

    Mean tokens of different clips are nearly equal at first, so predictions are one constant and little else. Unless that is taken away,
    the variance term stretches what little differs along the one or two directions that are quickest, and some runs hardly learn
    another (docs/experiments.md, "Why, and what helps").
    """

    source = "frames"

    def __init__(self, settings: ObjectiveSettings, encoder: Encoder, targets: TargetSpec) -> None:
        super().__init__(settings, encoder, targets)
        self.standardised = settings.standardised

    def forward(self, encoder: Encoder, batch: Batch) -> tuple[Float32[Tensor, ""], Scalars]:
        """The loss of equation 6 with clips in place of tokens; a clip of which no point has a target counts as having none."""
        targets = self.conditioning(batch.frame_features.float().mean(dim=1))
        seen = (batch.rows >= 0).flatten(1).any(dim=1).float()
        pooled = encoder(batch.points).features.mean(dim=1)
        if self.standardised:
            pooled = standardise(pooled.float(), seen)
        return self.distil(self.head(pooled).float(), targets, seen)


def standardise(pooled: Float32[Tensor, "clip channel"], weights: Float32[Tensor, " clip"]) -> Float32[Tensor, "clip channel"]:
    """Less their mean and over their deviation, channel by channel, both over the clips that have weight."""
    weights = (weights / weights.sum().clamp(min=1)).unsqueeze(-1)
    centred = pooled - (weights * pooled).sum(dim=0)
    return centred / ((weights * centred.square()).sum(dim=0) + EPSILON).sqrt()
