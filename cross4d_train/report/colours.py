"""Colours for points from features: three principal components as red, green, blue."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor

LEAST_SPAN = 1e-12
"""Of a component that is stretched: one that is the same everywhere stays dark."""


@dataclass(frozen=True, kw_only=True)
class Palette:
    """What makes colours of features: equal features get equal colours, wherever they come from.

    `low` and `high` are the values of the components that become 0 and 1.
    """

    mean: Float32[Tensor, " channel"]
    axes: Float32[Tensor, "channel 3"]
    low: Float32[Tensor, "3"]
    high: Float32[Tensor, "3"]

    @classmethod
    def of(cls, features: Float32[Tensor, "item channel"]) -> "Palette":
        """The first three principal components of features, each stretched between its 2nd and 98th percentile.

        The sign of a component is fixed by its largest weight, so that equal features give equal colours.
        """
        mean = features.mean(dim=0)
        centred = features - mean
        _, vectors = torch.linalg.eigh(centred.T @ centred)
        axes = vectors[:, -3:].flip(1)
        strongest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
        axes = axes * strongest.sign()
        low, high = (centred @ axes).quantile(torch.tensor([0.02, 0.98], dtype=features.dtype), dim=0)
        return cls(mean=mean, axes=axes, low=low, high=high)

    def colours(self, features: Float32[Tensor, "*item channel"]) -> Float32[Tensor, "*item 3"]:
        """Red, green and blue in [0, 1]."""
        components: Tensor = (features - self.mean) @ self.axes
        stretched: Tensor = (components - self.low) / (self.high - self.low).clamp_min(LEAST_SPAN)
        return stretched.clamp(0, 1)


def principal_colours(features: Float32[Tensor, "item channel"]) -> Float32[Tensor, "item 3"]:
    """Features in the colours of their own palette."""
    return Palette.of(features).colours(features)
