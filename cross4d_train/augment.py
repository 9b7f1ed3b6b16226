"""Random changes of clips that leave what is seen in them the same."""

import math

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Tensor

from cross4d_cache.record import Record


class Augmentation(Record):
    """How far a clip may change; each is drawn once a clip, evenly, but for the jitter, which is Gaussian and each point's own.

    `scale` is a share of the size. A clip turns about the vertical, then about some horizontal axis, both ways: by 180 degrees is any turn.
    """

    scale: float = Field(default=0.0, ge=0, lt=1)
    yaw_degrees: float = Field(default=0.0, ge=0, le=180)
    tilt_degrees: float = Field(default=0.0, ge=0, le=180)
    jitter_metres: float = Field(default=0.0, ge=0, le=1000)


def augment(
    points: Float32[Tensor, "batch frame point 3"], augmentation: Augmentation, generator: torch.Generator
) -> Float32[Tensor, "batch frame point 3"]:
    """Every clip scaled and turned about its centre, every point moved by Gaussian noise. OpenCV axes: y is the vertical.

    The generator is one of the CPU, so that every device gives the same clips.
    """
    centre = points.mean(dim=(1, 2), keepdim=True)
    reach = torch.tensor([[augmentation.scale], [math.radians(augmentation.yaw_degrees)]])
    scale, angle = (2 * torch.rand(2, len(points), generator=generator) - 1) * reach
    noise = torch.randn(points.shape, generator=generator)
    turn = _about_vertical(angle)
    if augmentation.tilt_degrees:
        heading, tilt = (2 * torch.rand(2, len(points), generator=generator) - 1) * math.pi
        axis = _about_vertical(heading)
        turn = axis @ _about_right(tilt * (augmentation.tilt_degrees / 180)) @ axis.transpose(1, 2) @ turn
    turn, scale = turn.unsqueeze(1).to(points.device), scale.view(-1, 1, 1, 1).to(points.device)
    with torch.autocast(points.device.type, enabled=False):
        moved: Tensor = ((points - centre) @ turn.transpose(2, 3)) * (1 + scale) + centre
    return moved + augmentation.jitter_metres * noise.to(points.device)


def _about_vertical(angle: Float32[Tensor, " batch"]) -> Float32[Tensor, "batch 3 3"]:
    cosine, sine, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([cosine, zero, sine, zero, one, zero, -sine, zero, cosine], dim=-1).view(-1, 3, 3)


def _about_right(angle: Float32[Tensor, " batch"]) -> Float32[Tensor, "batch 3 3"]:
    cosine, sine, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([one, zero, zero, zero, cosine, -sine, zero, sine, cosine], dim=-1).view(-1, 3, 3)
