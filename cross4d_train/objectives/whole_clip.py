"""The global baseline (section 3): the mean of a clip's tokens predicts the mean of the teacher's embeddings of its frames."""

from jaxtyping import Float32
from torch import Tensor

from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.objectives.distillation import Distillation
from cross4d_train.objectives.objective import Scalars


class WholeClip(Distillation):
    """One target a clip. Its spread over a batch is that of a few clips, so the variance term is noisier than in dense."""

    source = "frames"

    def forward(self, encoder: Encoder, batch: Batch) -> tuple[Float32[Tensor, ""], Scalars]:
        """The loss of equation 6 with clips in place of tokens; a clip of which no point has a target counts as having none."""
        targets = self.conditioning(batch.frame_features.float().mean(dim=1))
        seen = (batch.rows >= 0).flatten(1).any(dim=1)
        return self.distil(self.head(encoder(batch.points).features.mean(dim=1)).float(), targets, seen.float())
