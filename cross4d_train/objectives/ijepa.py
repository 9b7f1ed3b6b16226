"""Masked latent prediction (I-JEPA, Assran et al., CVPR 2023) in four dimensions: what would the encoder say of what it does not see?"""

from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional

from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.encoders.place import places
from cross4d_train.objectives.masking import hide_tubes
from cross4d_train.objectives.momentum_encoder import MomentumEncoder
from cross4d_train.objectives.objective import Objective, ObjectiveSettings, Scalars, TargetSpec
from cross4d_train.objectives.predictor import Predictor

MOMENTUM = 0.996
"""Of the target encoder at the beginning; it rises linearly to 1, as published."""

HIDDEN = 0.6
"""Share of the tubes. Ours: published are four blocks of 15 to 20 % of an image, which overlap."""

DEPTH, NUM_HEADS = 4, 4
"""Of the predictor, which is half as wide as the encoder. Ours: the published one, 384 wide and 6 to 12 deep, is for encoders of 768 up."""


class IJEPA(Objective):
    """A predictor is given the tokens of the visible tubes and the places of the target encoder's tokens in hidden ones.

    Targets are normalised over channels and compared by the smooth L1 distance, as in the published code.
    """

    def __init__(self, settings: ObjectiveSettings, encoder: Encoder, targets: TargetSpec) -> None:
        super().__init__(settings, encoder, targets)
        width = encoder.channels // 2
        self.target = MomentumEncoder(encoder)
        self.predictor = Predictor(encoder.channels, width=width, depth=DEPTH, num_heads=NUM_HEADS)
        self.head = nn.Linear(width, encoder.channels)

    def forward(self, encoder: Encoder, batch: Batch) -> tuple[Float32[Tensor, ""], Scalars]:
        """The mean distance over tokens in hidden tubes; `spread`, their mean standard deviation over a batch, is 0 in collapse."""
        masking = hide_tubes(batch.points, share=HIDDEN, generator=batch.generator())
        whole = self.target(batch.points)
        features = whole.features.float()
        targets = functional.layer_norm(features, features.shape[-1:])
        context = encoder(masking.context)
        answers = self.predictor(
            context,
            places(batch.points, context.centroids, context.frame),
            places(batch.points, whole.centroids, whole.frame),
        )
        hidden = masking.hides(whole.centroids, whole.frame).float()
        apart = functional.smooth_l1_loss(self.head(answers).float(), targets, reduction="none").mean(dim=-1)
        loss = (apart * hidden).sum() / hidden.sum().clamp(min=1)
        return loss, {"spread": features.flatten(0, 1).std(dim=0).mean(), "hidden": hidden.mean()}

    def finish_step(self, encoder: Encoder, progress: float) -> None:
        """The target encoder follows."""
        self.target.follow(encoder, MOMENTUM + (1 - MOMENTUM) * progress)
