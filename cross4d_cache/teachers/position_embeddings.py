"""Positions as the authors of a model compute them, where transformers does otherwise.

DINOv2 without registers, for images of another size than it was trained on (518 px): at the paper's 126 px the same weights would give
other features. Models with registers are resampled alike by both. DINOv3, at any size: the authors' rotary periods are bfloat16 numbers.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor

OFFSET = 0.1
"""Added to the number of patches before scales are taken (`interpolate_offset`)."""


def resample(table: Float[Tensor, "1 position channel"], side: int) -> Float32[Tensor, "1 token channel"]:
    """Position embeddings for `side` x `side` patches from those of another size, the class token's first.

    Bicubic, without antialiasing, at scales of `(side + 0.1) / old side` (facebookresearch/dinov2, `interpolate_pos_encoding`).
    """
    patches = table[:, 1:].float()
    old_side = math.isqrt(patches.shape[1])
    if old_side == side:
        return table.float()
    grid = patches.unflatten(1, (old_side, old_side)).permute(0, 3, 1, 2)
    scale = (side + OFFSET) / old_side
    resampled = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([table[:, :1].float(), resampled.flatten(2).transpose(1, 2)], dim=1)


def resample_as_the_authors(embeddings: Any) -> None:
    """Replace how a model's embeddings resample their positions; the table of positions stays, each size is resampled once."""
    made: dict[int, Tensor] = {}

    def positions(tokens: Tensor, height: int, width: int) -> Tensor:
        side = math.isqrt(tokens.shape[1] - 1)
        if side not in made or made[side].device != tokens.device:
            made[side] = resample(embeddings.position_embeddings, side)
        return made[side].to(tokens.dtype)

    embeddings.interpolate_pos_encoding = positions


def round_periods_as_the_authors(rope: Any) -> None:
    """Round the periods of DINOv3's rotary positions to bfloat16, as the authors' files hold them, and compute on in float32."""
    rope.inv_freq.copy_(1 / (1 / rope.inv_freq).bfloat16().float())
