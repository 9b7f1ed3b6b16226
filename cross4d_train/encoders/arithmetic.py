"""How large an encoder is and how much it computes, counted."""

from dataclasses import dataclass

import torch
from torch.func import functional_call
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
    """What a forward pass over one clip takes, counted in one that knows shapes and computes nothing.

    Raises:
        SettingsError: a clip that the encoder cannot take.
    """
    shapes = {name: value.to("meta") for name, value in (*encoder.named_parameters(), *encoder.named_buffers())}
    points = torch.empty(1, num_frames, num_points, 3, device="meta")
    # The counter does not know every fused kernel, so attention is run as the plain products it consists of.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        tokens = functional_call(encoder, shapes, (points,))
    counts = counter.get_flop_counts()["Global"]
    return Cost(
        parameters=sum(parameter.numel() for parameter in encoder.parameters()),
        tokens=tokens.frame.shape[1],
        channels=encoder.channels,
        linear_flops=counts.get(_aten.addmm, 0) + counts.get(_aten.mm, 0),
        product_flops=counts.get(_aten.bmm, 0),
    )
