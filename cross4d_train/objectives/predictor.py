"""Asks tokens of a clip what is at other places of it: how objectives that hide something predict it."""

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from cross4d_train.encoders.encoder import Tokens
from cross4d_train.encoders.transformer import Block


class Predictor(nn.Module):
    """A transformer over tokens and queries; all queries of a kind are alike but for their places.

    Places are positions about the clip and times, metres, as `places` gives them.
    """

    def __init__(self, channels: int, *, width: int, depth: int, num_heads: int, num_kinds: int = 1) -> None:
        super().__init__()
        self.context = nn.Linear(channels, width)
        self.queries = nn.Parameter(torch.zeros(num_kinds, width))
        self.position = nn.Sequential(nn.Linear(4, width), nn.GELU(), nn.Linear(width, width))
        self.blocks = nn.Sequential(*(Block(width, num_heads, 4 * width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        context: Tokens,
        context_places: Float32[Tensor, "batch token 4"],
        query_places: Float32[Tensor, "batch query 4"],
        kind: int = 0,
    ) -> Float[Tensor, "batch query width"]:
        """What the context says of the places of the queries."""
        known = self.context(context.features) + self.position(context_places)
        asked = self.queries[kind] + self.position(query_places)
        mixed = self.blocks(torch.cat([known, asked.to(known)], dim=1))
        answers: Tensor = self.norm(mixed[:, known.shape[1] :])
        return answers
