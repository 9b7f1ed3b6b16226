"""How large an encoder is and how much it computes, counted."""

from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cross4d_train.encoders.encoder import Encoder

_aten = torch.ops.aten


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one clip. A multiplication and an addition are two operations.

    `linear_flops` are those of linear layers, `product_flops` those of products of activations: attention. The search for neighbours,
    elementwise operations and norms are not counted.
    """

    parameters: int
    tokens: int
    channels: int
    linear_flops: int
    product_flops: int


def count_cost(encoder: Encoder, *, num_frames: int, num_points: int) -> Cost:
    """What a forward pass over one clip takes, counted in a run on random points."""
    parameter = next(encoder.parameters())
    points = torch.randn(1, num_frames, num_points, 3, generator=torch.Generator().manual_seed(0)) * 0.4
    # The counter does not know every fused kernel, so attention is run as the plain products it consists of.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        tokens = encoder(points.to(parameter.device))
    counts = counter.get_flop_counts()["Global"]
    return Cost(
        parameters=sum(parameter.numel() for parameter in encoder.parameters()),
        tokens=tokens.frame.shape[1],
        channels=encoder.channels,
        linear_flops=counts.get(_aten.addmm, 0) + counts.get(_aten.mm, 0),
        product_flops=counts.get(_aten.bmm, 0),
    )
