"""Hiding parts of clips: tubes of space and time, cut out of the points, so that any encoder can be asked for what it did not see."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from cross4d_train.encoders.grouping import farthest_points, nearest_points, take

TUBE_FRAMES = 3
"""Frames that a tube spans, as in MaST-Pre and Uni4D; the last tubes span what remains as well."""

POINTS_PER_TUBE = 32
"""How many points of a frame there are to a tube, as published."""

FEWEST_TUBES = 4
"""Ours, for clips of few points."""


@dataclass(frozen=True, kw_only=True)
class Masking:
    """A clip cut into tubes, some of them hidden; every tube has a centre, a point of the frame in the middle of its time.

    In `context` hidden points are replaced by other points of their frame, so shapes stay what they are.
    """

    context: Float32[Tensor, "batch frame point 3"]
    centres: Float32[Tensor, "batch segment tube 3"]
    hidden: Bool[Tensor, "batch segment tube"]
    segments: Int64[Tensor, " frame"]
    middles: Int64[Tensor, " segment"]

    @property
    def hidden_centres(self) -> Float32[Tensor, "batch hidden 3"]:
        """Centres of the hidden tubes, segment after segment, equally many of each."""
        return self.centres[self.hidden].view(len(self.centres), -1, 3)

    @property
    def hidden_frames(self) -> Int64[Tensor, "batch hidden"]:
        """The frames that these centres are points of."""
        return self.middles.unsqueeze(1).expand(self.hidden.shape)[self.hidden].view(len(self.hidden), -1)

    def hides(self, centroids: Float32[Tensor, "batch token 3"], frame: Int64[Tensor, "batch token"]) -> Bool[Tensor, "batch token"]:
        """Whether points of these frames lie in hidden tubes: a point belongs to the tube of the nearest centre."""
        clips = torch.arange(len(frame), device=frame.device).unsqueeze(1)
        segment = self.segments[frame]
        tube = (self.centres[clips, segment] - centroids.unsqueeze(2)).square().sum(dim=-1).argmin(dim=-1)
        return self.hidden[clips, segment, tube]


@torch.no_grad()
def hide_tubes(points: Float32[Tensor, "batch frame point 3"], *, share: float, generator: torch.Generator) -> Masking:
    """Hide that share of the tubes of every segment of every clip, at least one and never all.

    A frame that would be left without a point is left whole.
    """
    num_clips, num_frames, num_points = points.shape[:3]
    num_segments = max(1, num_frames // TUBE_FRAMES)
    num_tubes = max(FEWEST_TUBES, num_points // POINTS_PER_TUBE)
    segments = (torch.arange(num_frames, device=points.device) // TUBE_FRAMES).clamp(max=num_segments - 1)
    middles = (torch.arange(num_segments, device=points.device) * TUBE_FRAMES + TUBE_FRAMES // 2).clamp(max=num_frames - 1)
    clouds = points[:, middles].flatten(0, 1)
    centres = take(clouds, farthest_points(clouds, num_tubes)).unflatten(0, (num_clips, -1))
    num_hidden = min(max(round(share * num_tubes), 1), num_tubes - 1)
    order = torch.rand(num_clips, num_segments, num_tubes, generator=generator).argsort(dim=-1)
    hidden = (order < num_hidden).to(points.device)
    tubes = nearest_points(centres[:, segments].flatten(0, 1), points.flatten(0, 1), 1).view(num_clips, num_frames, num_points)
    concealed = hidden[:, segments].gather(2, tubes)
    return Masking(context=_replace(points, concealed, generator), centres=centres, hidden=hidden, segments=segments, middles=middles)


def _replace(
    points: Float32[Tensor, "batch frame point 3"], concealed: Bool[Tensor, "batch frame point"], generator: torch.Generator
) -> Float32[Tensor, "batch frame point 3"]:
    """Points with the concealed ones replaced by others of their frame, drawn evenly."""
    left = (~concealed).sum(dim=-1, keepdim=True)
    others = concealed.long().argsort(dim=-1, stable=True)  # those that are left come first
    draws = torch.rand(concealed.shape, generator=generator).to(points.device)
    drawn = others.gather(2, (draws * left).long().clamp(max=concealed.shape[-1] - 1))
    own = torch.arange(concealed.shape[-1], device=points.device)
    picks = torch.where(concealed & (left > 0), drawn, own)
    return take(points.flatten(0, 1), picks.flatten(0, 1)).view_as(points)
