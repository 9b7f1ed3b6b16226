"""Dense distillation (equations 4-6): each token predicts the teacher feature of the input point nearest to it."""

from jaxtyping import Float32
from torch import Tensor

from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.objectives.distillation import Distillation
from cross4d_train.objectives.objective import Scalars
from cross4d_train.token_targets import match_points, point_targets


class Dense(Distillation):
    """One target a token, where its point is visible."""

    source = "patches"

    def forward(self, encoder: Encoder, batch: Batch) -> tuple[Float32[Tensor, ""], Scalars]:
        """The loss of equation 6."""
        tokens = encoder(batch.points)
        targets, visible = point_targets(batch, tokens.frame, match_points(tokens, batch.points), self.conditioning)
        return self.distil(self.head(tokens.features).float(), targets, visible.float())
