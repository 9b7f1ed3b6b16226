"""Colours for points from features: three principal components as red, green, blue."""

import torch
from jaxtyping import Float32
from torch import Tensor


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
