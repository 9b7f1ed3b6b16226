"""From tokens to points: what holds of a token holds of the points around it."""

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from cross4d_train.encoders.encoder import Tokens
from cross4d_train.encoders.grouping import nearest_points, take

NEAREST_TOKENS = 3


def spread(
    values: Float[Tensor, "batch token channel"],
    tokens: Tokens,
    points: Float32[Tensor, "batch frame point 3"],
    *,
    first_frame: int = 0,
) -> Float32[Tensor, "batch frame point channel"]:
    """Values of all points from those of tokens: the three nearest of the point's own frame, or of the nearest frame that has tokens (of
    two the earlier), weighted by inverse distance.

    Weights sum to one, so a linear map of the values may come before or after; before is cheaper. All frames with tokens have equally
    many, frame after frame, as encoders give them. The points are those of the clip's frames from `first_frame` on.
    """
    batch, num_frames = points.shape[:2]
    known = tokens.frame[0].unique()
    frames = torch.arange(first_frame, first_frame + num_frames, device=known.device)
    source = (frames.unsqueeze(1) - known).abs().argmin(dim=1)
    with torch.no_grad():
        centroids = tokens.centroids.unflatten(1, (len(known), -1))[:, source].flatten(0, 1)
        clouds = points.flatten(0, 1)
        nearest = nearest_points(centroids, clouds, min(NEAREST_TOKENS, centroids.shape[1]))
        weight = 1 / (take(centroids, nearest) - clouds.unsqueeze(2)).norm(dim=-1, keepdim=True).clamp_min(1e-6)
        weight = weight / weight.sum(dim=2, keepdim=True)
    framed = values.float().unflatten(1, (len(known), -1))[:, source].flatten(0, 1)
    mixed: Tensor = (take(framed, nearest) * weight).sum(dim=2)
    return mixed.reshape(batch, num_frames, points.shape[2], -1)
