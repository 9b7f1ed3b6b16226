"""VICReg (Bardes, Ponce and LeCun, ICLR 2022) on clips: two changed copies of a clip are to have one embedding, different clips many."""

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional

from cross4d_train.augment import Augmentation, augment
from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.objectives.objective import Objective, ObjectiveSettings, Scalars, TargetSpec

INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0
"""Weights of the three terms, as published."""

EPSILON = 1e-4
"""Within the standard deviation, as published."""

AUGMENTATION = Augmentation(scale=0.2, yaw_degrees=30.0, jitter_metres=0.01)
"""Ours: images have no counterpart. Wider than in fine-tuning, for the two copies must differ."""

EXPANSION = 4
"""Width of the expander as a multiple of the encoder's channels. Ours: the published 8,192 are for batches of 2,048."""


class VICReg(Objective):
    """One embedding a clip: the mean of its tokens through an expander of three layers, without the published batch norms."""

    def __init__(self, settings: ObjectiveSettings, encoder: Encoder, targets: TargetSpec) -> None:
        super().__init__(settings, encoder, targets)
        width = EXPANSION * encoder.channels
        self.expander = nn.Sequential(
            nn.Linear(encoder.channels, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )

    def forward(self, encoder: Encoder, batch: Batch) -> tuple[Float32[Tensor, ""], Scalars]:
        """The weighted sum of invariance, variance and covariance; scalars are the terms."""
        generator = batch.generator()
        one, other = (self.expander(encoder(augment(batch.points, AUGMENTATION, generator)).features.mean(dim=1)).float() for _ in range(2))
        terms = {
            "invariance": functional.mse_loss(one, other),
            "variance": (variance(one) + variance(other)) / 2,
            "covariance": covariance(one) + covariance(other),
        }
        loss = INVARIANCE * terms["invariance"] + VARIANCE * terms["variance"] + COVARIANCE * terms["covariance"]
        return loss, {name: term.detach() for name, term in terms.items()}


def variance(embeddings: Float32[Tensor, "batch channel"]) -> Float32[Tensor, ""]:
    """How far the channels fall short of a standard deviation of one."""
    spread = (embeddings.var(dim=0, correction=0) + EPSILON).sqrt()
    return functional.relu(1 - spread).mean()


def covariance(embeddings: Float32[Tensor, "batch channel"]) -> Float32[Tensor, ""]:
    """The squared covariances of different channels, summed and divided by the number of channels; zero for a single clip."""
    with torch.autocast(embeddings.device.type, enabled=False):
        centred = embeddings - embeddings.mean(dim=0)
        products = centred.T @ centred / max(len(embeddings) - 1, 1)
    return (products.square().sum() - products.diagonal().square().sum()) / embeddings.shape[1]
