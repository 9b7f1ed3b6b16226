"""What is done to targets before they are predicted: nothing, centring, or centring and whitening.

Features of a frozen ViT share one strong direction: a predictor of that direction alone has a high cosine and has learned nothing.
Conditioning belongs to the objective, not to the store: it is fitted on the training side of a store and kept in the checkpoint.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Integer
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from cross4d_cache.errors import SettingsError
from cross4d_cache.store import Cache
from cross4d_train.soundness import check_targets

MOST_SEQUENCES = 256
"""Evenly spaced sequences that statistics are taken from: thousands of frames, in seconds."""

SMALLEST_EIGENVALUE = 1e-6
"""As a share of the largest: float16 targets say nothing about weaker directions."""


def _check(text: str) -> str:
    if re.fullmatch(r"none|center|center-patch|(whiten|whiten-patch):[1-9]\d{0,3}", text) is None:
        known = "one of: none, center, whiten:K, center-patch, whiten-patch:K, where K is the number of components kept"
        raise PydanticCustomError("conditioning", known)
    return text


ConditioningName = Annotated[str, AfterValidator(_check)]
"""`none`; `center` subtracts the mean; `whiten:K` then scales the K strongest principal components to unit variance, all of them if
there are no more than K.

`center-patch` and `whiten-patch:K` subtract the mean of the target's own patch index instead, so that the place in the image
predicts nothing.
"""

Source = Literal["patches", "frames"]
"""Which features of a store are targets: those of hit patches, or the global embeddings of frames."""


@dataclass(frozen=True, kw_only=True)
class TargetStatistics:
    """Sums over targets: how many there are of each patch index, their sum, and the sum of their outer products."""

    counts: Float64[Tensor, " patch"]
    sums: Float64[Tensor, "patch channel"]
    products: Float64[Tensor, "channel channel"]


def gather_statistics(cache: Cache, chosen: Sequence[int], source: Source) -> TargetStatistics:
    """Statistics of the targets of some sequences of a store; of global embeddings, which have no patch, under one index.

    Raises:
        CacheCorruptError: the store cannot be read.
        CacheFormatError: targets that are not finite.
    """
    manifest = cache.manifest
    num_patches = manifest.render.views * manifest.teacher.num_patches if source == "patches" else 1
    channels = manifest.projection.channels
    counts = torch.zeros(num_patches, dtype=torch.float64)
    sums, products = torch.zeros(num_patches, channels, dtype=torch.float64), torch.zeros(channels, channels, dtype=torch.float64)
    for index in sample_sequences(chosen):
        clip = cache.read_clip(index, np.arange(cache.sequences[index].num_frames))
        targets = clip.features if source == "patches" else clip.frame_features
        check_targets(targets, cache, index)
        features = torch.from_numpy(targets).double()
        patches = torch.from_numpy(clip.patches.astype(np.int64)) if source == "patches" else torch.zeros(len(features), dtype=torch.int64)
        counts += torch.bincount(patches, minlength=num_patches)
        sums.index_add_(0, patches, features)
        products += features.T @ features
    return TargetStatistics(counts=counts, sums=sums, products=products)


def constant_cosine(statistics: TargetStatistics) -> float:
    """The cosine of targets with their mean, exact where all are equally long: the length of the mean over their root mean square."""
    square = float(statistics.products.diagonal().sum() * statistics.counts.sum())
    return float(statistics.sums.sum(dim=0).norm()) / math.sqrt(square) if square > 0 else 0.0


def sample_sequences(chosen: Sequence[int]) -> list[int]:
    """At most `MOST_SEQUENCES` of some sequences, evenly spaced."""
    places = np.unique(np.linspace(0, len(chosen) - 1, min(len(chosen), MOST_SEQUENCES)).round().astype(np.int64))
    return [chosen[place] for place in places]


class Conditioning(nn.Module):
    """An affine map of targets. Its numbers are buffers: they travel with the objective, into checkpoints too.

    Until it is fitted it only cuts targets to the number of channels it will give.

    Raises:
        SettingsError: patch means where targets have no patch.
    """

    means: Float32[Tensor, "patch channel_in"]
    matrix: Float32[Tensor, "channel_in channel"]

    def __init__(self, name: str, *, target_channels: int, num_patches: int | None) -> None:
        super().__init__()
        kind, _, components = name.partition(":")
        self.name = name
        self.per_patch = kind.endswith("-patch")
        self.channels = min(int(components), target_channels) if components else target_channels
        if self.per_patch and num_patches is None:
            raise SettingsError(
                f"conditioning {name} of global embeddings, which belong to no patch",
                expected="none, center or whiten:K",
                hint="choose another `objective.conditioning`",
            )
        self.is_identity = kind == "none"
        self._whitens = bool(components)
        self.register_buffer("means", torch.zeros(num_patches if self.per_patch and num_patches else 1, target_channels))
        self.register_buffer("matrix", torch.eye(target_channels, self.channels))

    def fit(self, statistics: TargetStatistics) -> None:
        """Take mean and principal components from statistics of the training targets."""
        if self.is_identity:
            return
        counts, sums = statistics.counts, statistics.sums
        total = counts.sum().clamp(min=1)
        if not self.per_patch:
            counts, sums = total.unsqueeze(0), sums.sum(dim=0, keepdim=True)
        means = sums / counts.clamp(min=1).unsqueeze(1)
        means[counts == 0] = sums.sum(dim=0) / total  # a patch that training never hit
        self.means.copy_(means)
        if self._whitens:
            covariance = (statistics.products - (means * counts.unsqueeze(1)).T @ means) / total
            values, vectors = torch.linalg.eigh(covariance)
            values, vectors = values.flip(0)[: self.channels], vectors.flip(1)[:, : self.channels]
            values = values.clamp(min=max(SMALLEST_EIGENVALUE * float(values[0]), torch.finfo(torch.float32).tiny))
            # A component's sign is arbitrary; fixed by its strongest channel, equal targets give equal numbers everywhere.
            signs = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)).sign()
            self.matrix.copy_(vectors * signs / values.sqrt())

    @torch.no_grad()
    def forward(
        self, features: Float[Tensor, "*item channel_in"], patches: Integer[Tensor, "*item"] | None = None
    ) -> Float32[Tensor, "*item channel"]:
        """Conditioned targets, from those of the store and the patches they belong to."""
        features = features.detach().float()  # no_grad does not cover a tensor that is returned as it came
        if self.is_identity:
            return features
        if self.per_patch:
            assert patches is not None
            means = self.means[patches.long()]
        else:
            means = self.means[0]
        centred = features - means
        if not self._whitens:
            return centred
        with torch.autocast(features.device.type, enabled=False):
            return centred @ self.matrix

    @torch.no_grad()
    def restore(self, conditioned: Float32[Tensor, "*item channel"]) -> Float32[Tensor, "*item channel_in"]:
        """The targets of the store that conditioned ones stand for, in the components that were kept; patch means are not put back."""
        if self.is_identity:
            return conditioned
        spread: Tensor = conditioned @ torch.linalg.pinv(self.matrix) if self._whitens else conditioned
        return spread if self.per_patch else spread + self.means[0]
