"""Contrastive match of clips to the teacher's view of them, in the spirit of CrossVideo (Liu et al., 2024): which of the batch's global
teacher embeddings is this clip's?"""

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional

from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.objectives.distillation import Distillation
from cross4d_train.objectives.objective import Scalars

TEMPERATURE = 0.07
"""Ours: the usual value of contrastive learning between modalities; we found none published for CrossVideo."""

EXCLUDED = -1e4
"""The logit of a clip without targets; finite, so that a batch without any has a gradient, of zero."""


class CrossVideo(Distillation):
    """Symmetric InfoNCE between projected clip embeddings (the mean of the tokens) and conditioned global embeddings.

    The intra-modal and the point-level terms of CrossVideo are left out: they need a second network.
    """

    source = "frames"

    def forward(self, encoder: Encoder, batch: Batch) -> tuple[Float32[Tensor, ""], Scalars]:
        """The loss over clips that have targets, zero if there are not two; `accuracy` is the share of them that find their own."""
        predictions = functional.normalize(self.head(encoder(batch.points).features.mean(dim=1)).float(), dim=-1)
        targets = functional.normalize(self.conditioning(batch.frame_features.float().mean(dim=1)), dim=-1)
        seen = (batch.rows >= 0).flatten(1).any(dim=1)
        weights = seen.float() * (seen.sum() > 1)
        with torch.autocast(predictions.device.type, enabled=False):
            logits = predictions @ targets.T / TEMPERATURE
        own = torch.arange(len(batch), device=logits.device)
        losses = [
            functional.cross_entropy(scores.masked_fill(~seen.unsqueeze(0), EXCLUDED), own, reduction="none")
            for scores in (logits, logits.T)
        ]
        found = logits.masked_fill(~seen.unsqueeze(0), EXCLUDED).argmax(dim=-1) == own
        weights = weights / weights.sum().clamp(min=1)
        loss = (weights * (losses[0] + losses[1]) / 2).sum()
        return loss, {"accuracy": (weights * found).sum(), "visible": seen.float().mean()}
