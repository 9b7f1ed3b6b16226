"""Random changes of clips that leave what is seen in them the same."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far size (a share), heading and single points may move; size and heading are drawn once a clip, evenly."""

    scale: float
    yaw_degrees: float
    jitter_metres: float


def augment(
    points: Float32[Tensor, "batch frame point 3"], augmentation: Augmentation, generator: torch.Generator
) -> Float32[Tensor, "batch frame point 3"]:
    """Every clip scaled and turned about the vertical axis through its centre, every point moved by Gaussian noise.

    The generator is one of the CPU, so that every device gives the same clips.
    """
    centre = points.mean(dim=(1, 2), keepdim=True)
    reach = torch.tensor([[augmentation.scale], [math.radians(augmentation.yaw_degrees)]])
    scale, angle = ((2 * torch.rand(2, len(points), generator=generator) - 1) * reach).to(points.device)
    cosine, sine, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    turn = torch.stack([cosine, zero, sine, zero, one, zero, -sine, zero, cosine], dim=-1).view(-1, 1, 3, 3)
    with torch.autocast(points.device.type, enabled=False):
        moved: Tensor = ((points - centre) @ turn.transpose(2, 3)) * (1 + scale).view(-1, 1, 1, 1) + centre
    noise = torch.randn(points.shape, generator=generator).to(points.device)
    return moved + augmentation.jitter_metres * noise
