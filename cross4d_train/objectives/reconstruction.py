"""What hidden tubes hold, and how far predicted points are from it (masked autoencoding, as in MaST-Pre and Uni4D)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from cross4d_train.encoders.grouping import nearest_points, take
from cross4d_train.objectives.masking import POINTS_PER_TUBE, TUBE_FRAMES, Masking

OCTANTS = 8
MOST_COUNTED = 2 * POINTS_PER_TUBE
"""Points of a frame that are looked at around a centre; a tube that more points enter counts as that full."""


@dataclass(frozen=True, kw_only=True)
class TubeContents:
    """For each of the three frames of a hidden tube the nearest points around its centre, about the centre, metres; and how many points
    there are in the octants around the centre, as far out as these points reach in the middle frame."""

    points: Float32[Tensor, "batch hidden frame point 3"]
    counts: Float32[Tensor, "batch hidden frame octant"]


@torch.no_grad()
def tube_contents(points: Float32[Tensor, "batch frame point 3"], masking: Masking) -> TubeContents:
    """The contents of all hidden tubes. Before the first and after the last frame stands that frame."""
    num_clips, num_frames, num_points = points.shape[:3]
    offsets = torch.arange(TUBE_FRAMES, device=points.device) - TUBE_FRAMES // 2
    frames = (masking.middles.unsqueeze(1) + offsets).clamp(0, num_frames - 1)
    centres = masking.hidden_centres.unflatten(1, (len(masking.middles), -1))
    clouds = points[:, frames].flatten(0, 2)
    queries = centres.unsqueeze(2).expand(-1, -1, TUBE_FRAMES, -1, -1).flatten(0, 2)
    nearest = nearest_points(clouds, queries, min(MOST_COUNTED, num_points))
    found = (take(clouds, nearest) - queries.unsqueeze(2)).unflatten(0, (num_clips, -1, TUBE_FRAMES))
    around = found.transpose(2, 3).flatten(1, 2)  # hidden tubes of all segments in one row
    kept = min(POINTS_PER_TUBE, num_points // 2)
    squares = around.square().sum(dim=-1)
    reach = squares[:, :, TUBE_FRAMES // 2, :kept].amax(dim=-1)
    inside = squares <= reach[:, :, None, None]
    return TubeContents(points=around[..., :kept, :], counts=count_octants(around, inside))


def count_octants(offsets: Float32[Tensor, "*item point 3"], inside: Bool[Tensor, "*item point"]) -> Float32[Tensor, "*item octant"]:
    """How many of the points that are inside lie in each octant; a point on a border lies on the negative side."""
    places = (offsets > 0).long() @ torch.tensor([1, 2, 4], device=offsets.device)
    octants = torch.arange(OCTANTS, device=offsets.device)
    return ((places.unsqueeze(-1) == octants) & inside.unsqueeze(-1)).sum(dim=-2).float()


def chamfer_distance(predictions: Float32[Tensor, "*item point 3"], targets: Float32[Tensor, "*item other 3"]) -> Float32[Tensor, "*item"]:
    """Mean squared distance of every point to the nearest of the other cloud, both directions added, square metres."""
    with torch.autocast(predictions.device.type, enabled=False):
        squares = predictions.square().sum(dim=-1, keepdim=True) + targets.square().sum(dim=-1).unsqueeze(-2)
        distances = (squares - 2 * predictions @ targets.transpose(-1, -2)).clamp(min=0)
    return distances.min(dim=-1).values.mean(dim=-1) + distances.min(dim=-2).values.mean(dim=-1)
