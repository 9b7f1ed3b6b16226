"""Dense distillation (equations 4-6): each token predicts the teacher feature of the input point nearest to it."""

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor, nn
from torch.nn import functional

from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Tokens
from cross4d_train.encoders.grouping import nearest_points
from cross4d_train.objectives.objective import Objective, ObjectiveSettings, Scalars

EPSILON = 1e-4
"""Keeps the gradient of a standard deviation finite where all predictions agree."""


class Dense(Objective):
    """`1 - cos(prediction, target)` over tokens whose point is visible, plus a weighted hinge on the spread of predictions."""

    def __init__(self, settings: ObjectiveSettings, channels: int, target_channels: int) -> None:
        super().__init__()
        self.variance_weight = settings.variance_weight
        self.head = nn.Linear(channels, target_channels)

    def forward(self, tokens: Tokens, batch: Batch) -> tuple[Float32[Tensor, ""], Scalars]:
        """The loss of equation 6."""
        points = match_points(tokens, batch)
        targets, visible = point_targets(batch, tokens.frame, points)
        predictions = self.head(tokens.features).float()
        # Weights instead of selecting the visible tokens: every shape stays fixed, and no visible token means a loss of zero.
        weights = visible.float()
        weights = weights / weights.sum().clamp(min=1)
        cosine = (weights * functional.cosine_similarity(predictions, targets, dim=-1)).sum()
        variance = variance_term(predictions, weights)
        loss = weights.sum() - cosine + self.variance_weight * variance
        return loss, Scalars(cosine=cosine.detach(), variance=variance.detach(), visible=visible.float().mean())


def variance_term(predictions: Float32[Tensor, "batch token channel"], weights: Float32[Tensor, "batch token"]) -> Float32[Tensor, ""]:
    """Mean over channels of `relu(1 - std)` (equation 5), over the tokens that have weight; zero if none has."""
    weights = weights.unsqueeze(-1)
    mean = (weights * predictions).sum(dim=(0, 1))
    variance = (weights * (predictions - mean).square()).sum(dim=(0, 1))
    return functional.relu(1 - (variance + EPSILON).sqrt()).mean() * (weights.sum() > 0)


@torch.no_grad()
def match_points(tokens: Tokens, batch: Batch) -> Int64[Tensor, "batch token"]:
    """The input point nearest to each token among the points of the token's own frame (equation 4)."""
    num_clips, num_frames = batch.points.shape[:2]
    first_cloud = torch.arange(num_clips, device=tokens.frame.device).unsqueeze(1) * num_frames
    clouds = (tokens.frame + first_cloud).flatten()
    # Tokens of one cloud are brought together, padded to the fullest cloud, so that all clouds are searched at once.
    order = clouds.argsort(stable=True)
    counts = torch.bincount(clouds, minlength=num_clips * num_frames)
    place = torch.empty_like(clouds)
    place[order] = torch.arange(len(clouds), device=clouds.device) - (counts.cumsum(0) - counts)[clouds[order]]
    queries = tokens.centroids.new_zeros(len(counts), int(counts.max()), 3)
    queries[clouds, place] = tokens.centroids.flatten(0, 1)
    nearest = nearest_points(batch.points.flatten(0, 1), queries, 1)
    return nearest[clouds, place, 0].view_as(tokens.frame)


@torch.no_grad()
def point_targets(
    batch: Batch, frame: Int64[Tensor, "batch token"], points: Int64[Tensor, "batch token"]
) -> tuple[Float32[Tensor, "batch token channel"], Bool[Tensor, "batch token"]]:
    """The mean teacher feature over the views that see a point, and whether any does; zeros where none does."""
    clips = torch.arange(len(batch), device=frame.device).unsqueeze(1)
    rows = batch.rows[clips, frame, points].long()
    seen = rows >= 0
    if len(batch.features) == 0:
        return batch.features.new_zeros((*frame.shape, batch.features.shape[1]), dtype=torch.float32), seen.any(dim=-1)
    features = batch.features[rows.clamp(min=0)].float() * seen.unsqueeze(-1)
    return features.sum(dim=2) / seen.sum(dim=-1, keepdim=True).clamp(min=1), seen.any(dim=-1)
