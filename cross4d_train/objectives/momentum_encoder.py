"""A slowly moving average of an encoder: what an encoder is to predict of clips that it does not see whole."""

import copy

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from cross4d_train.encoders.encoder import Encoder, Tokens


class MomentumEncoder(nn.Module):
    """A frozen copy of an encoder that follows it; it begins as the encoder is, and its state travels in checkpoints."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "MomentumEncoder":
        """Stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, points: Float32[Tensor, "batch frame point 3"]) -> Tokens:
        """Tokens of whole clips, without gradients."""
        tokens: Tokens = self.encoder(points)
        return tokens

    @torch.no_grad()
    def follow(self, encoder: Encoder, momentum: float) -> None:
        """Move: `momentum` of what it was, the rest from the encoder."""
        for mine, theirs in zip(self.encoder.parameters(), encoder.parameters(), strict=True):
            mine.lerp_(theirs, 1 - momentum)
