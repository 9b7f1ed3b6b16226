"""Colours for points from features: tokens spread to the points around them, and three principal components as red, green, blue."""

import torch
from jaxtyping import Float32
from torch import Tensor

from cross4d_train.encoders.encoder import Tokens
from cross4d_train.encoders.grouping import nearest_points, take

NEAREST_TOKENS = 3


@torch.no_grad()
def point_features(tokens: Tokens, points: Float32[Tensor, "batch frame point 3"]) -> Float32[Tensor, "batch frame point channel"]:
    """Features of all points: the three nearest tokens of the point's own frame, or of the nearest frame that has tokens (of two the
    earlier), weighted by inverse distance.

    All frames with tokens have equally many, frame after frame, as encoders give them.
    """
    batch, num_frames = points.shape[:2]
    known = tokens.frame[0].unique()
    frames = torch.arange(num_frames, device=known.device)
    source = (frames.unsqueeze(1) - known).abs().argmin(dim=1)
    centroids = tokens.centroids.unflatten(1, (len(known), -1))[:, source].flatten(0, 1)
    features = tokens.features.float().unflatten(1, (len(known), -1))[:, source].flatten(0, 1)
    clouds = points.flatten(0, 1)
    nearest = nearest_points(centroids, clouds, min(NEAREST_TOKENS, centroids.shape[1]))
    distance = (take(centroids, nearest) - clouds.unsqueeze(2)).norm(dim=-1, keepdim=True)
    weight = 1 / distance.clamp_min(1e-6)
    mixed: Tensor = (take(features, nearest) * weight).sum(dim=2) / weight.sum(dim=2)
    return mixed.reshape(batch, num_frames, points.shape[2], -1)


def principal_colours(features: Float32[Tensor, "item channel"]) -> Float32[Tensor, "item 3"]:
    """Red, green and blue in [0, 1] from the first three principal components, each stretched between its 2nd and 98th percentile.

    The sign of a component is fixed by its largest weight, so that equal features give equal colours.
    """
    centred = features - features.mean(dim=0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    axes = vectors[:, -3:].flip(1)
    strongest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    components: Tensor = centred @ (axes * strongest.sign())
    low, high = components.quantile(torch.tensor([0.02, 0.98], dtype=components.dtype), dim=0)
    stretched: Tensor = (components - low) / (high - low).clamp_min(1e-12)
    return stretched.clamp(0, 1)
