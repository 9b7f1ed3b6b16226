"""Which input point each token stands for (equation 4 of the paper), and what the store says of that point."""

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from cross4d_train.conditioning import Conditioning
from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Tokens
from cross4d_train.encoders.grouping import nearest_points


@torch.no_grad()
def match_points(tokens: Tokens, points: Float32[Tensor, "batch frame point 3"]) -> Int64[Tensor, "batch token"]:
    """The input point nearest to each token among the points of the token's own frame."""
    num_clips, num_frames = points.shape[:2]
    first_cloud = torch.arange(num_clips, device=tokens.frame.device).unsqueeze(1) * num_frames
    clouds = (tokens.frame + first_cloud).flatten()
    # Tokens of one cloud are brought together, padded to the fullest cloud, so that all clouds are searched at once.
    order = clouds.argsort(stable=True)
    counts = torch.bincount(clouds, minlength=num_clips * num_frames)
    place = torch.empty_like(clouds)
    place[order] = torch.arange(len(clouds), device=clouds.device) - (counts.cumsum(0) - counts)[clouds[order]]
    queries = tokens.centroids.new_zeros(len(counts), int(counts.max()), 3)
    queries[clouds, place] = tokens.centroids.flatten(0, 1)
    nearest = nearest_points(points.flatten(0, 1), queries, 1)
    return nearest[clouds, place, 0].view_as(tokens.frame)


@torch.no_grad()
def view_targets(
    batch: Batch, frame: Int64[Tensor, "batch token"], points: Int64[Tensor, "batch token"], conditioning: Conditioning
) -> tuple[Float32[Tensor, "batch token view channel"], Bool[Tensor, "batch token view"]]:
    """The conditioned feature of a point in every view, and which views see it; zeros in those that do not."""
    clips = torch.arange(len(batch), device=frame.device).unsqueeze(1)
    rows = batch.rows[clips, frame, points].long()
    seen = rows >= 0
    if len(batch.features) == 0:
        return batch.features.new_zeros((*rows.shape, conditioning.channels), dtype=torch.float32), seen
    rows = rows.clamp(min=0)
    return conditioning(batch.features[rows], batch.patches[rows]) * seen.unsqueeze(-1), seen


@torch.no_grad()
def point_targets(
    batch: Batch, frame: Int64[Tensor, "batch token"], points: Int64[Tensor, "batch token"], conditioning: Conditioning
) -> tuple[Float32[Tensor, "batch token channel"], Bool[Tensor, "batch token"]]:
    """The mean conditioned feature over the views that see a point, and whether any does; zeros where none does."""
    features, seen = view_targets(batch, frame, points, conditioning)
    return features.sum(dim=2) / seen.sum(dim=-1, keepdim=True).clamp(min=1), seen.any(dim=-1)
