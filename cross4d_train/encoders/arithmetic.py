"""How large an encoder is and how much it computes, counted."""

import torch
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cross4d_cache.errors import SettingsError
from cross4d_cache.work import Remark, Stage, Step, Work
from cross4d_train.catalogue import Cost
from cross4d_train.encoders import ENCODERS, outline_encoder
from cross4d_train.encoders.encoder import Encoder

_aten = torch.ops.aten


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


def count_costs(*, num_frames: int, num_points: int) -> Work[dict[tuple[str, str], Cost]]:
    """What a clip costs every encoder in each of its sizes; those that cannot take such a clip are left out, and said."""
    outlines = {
        (name, size): outline_encoder(kind, config) for name, kind in ENCODERS.built_in.items() for size, config in kind.sizes.items()
    }
    stage, costs = Stage(name="encoders", unit="encoder", total=len(outlines)), {}
    for done, ((name, size), encoder) in enumerate(outlines.items()):
        yield Step(stage=stage, done=done)
        try:
            costs[name, size] = count_cost(encoder, num_frames=num_frames, num_points=num_points)
        except SettingsError as error:
            yield Remark(f"{name} {size}: {error.found}")
    yield Step(stage=stage, done=len(outlines))
    return costs
