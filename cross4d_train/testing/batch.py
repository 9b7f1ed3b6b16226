"""Batches and targets of random numbers, for tests of what is done with them."""

import torch

from cross4d_train.conditioning import TargetStatistics
from cross4d_train.data import Batch
from cross4d_train.objectives.objective import TargetSpec

CHANNELS, PATCHES, VIEWS = 8, 8, 2
TARGETS = TargetSpec(channels=CHANNELS, num_views=VIEWS, num_patches=PATCHES)
"""What the targets of these batches are."""


def random_batch(
    clips: int = 2, frames: int = 3, points: int = 64, views: int = VIEWS, rows: int = 20, visible: float = 0.6, seed: int = 0
) -> Batch:
    """A batch of random points about 3 m away; a share of `visible` of them has one of `rows` features, the others none."""
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(max(rows, 1), (clips, frames, points, views), generator=generator)
    hidden = torch.rand(picks.shape, generator=generator) >= visible
    return Batch(
        key=seed,
        points=torch.randn(clips, frames, points, 3, generator=generator) * 0.4 + 2,
        rows=picks.masked_fill(hidden, -1).int(),
        features=torch.randn(rows, CHANNELS, generator=generator).half(),
        patches=torch.randint(PATCHES, (rows,), generator=generator, dtype=torch.int32),
        frame_features=torch.randn(clips, frames, CHANNELS, generator=generator).half(),
        actions=torch.zeros(clips, dtype=torch.int64),
        sequences=torch.arange(clips),
    )


def random_statistics(num_patches: int = PATCHES) -> TargetStatistics:
    """Statistics of other random targets than the batches have."""
    generator = torch.Generator().manual_seed(7)
    features = torch.randn(10, num_patches, CHANNELS, generator=generator, dtype=torch.float64) + 0.5
    flat = features.flatten(0, 1)
    return TargetStatistics(counts=torch.full((num_patches,), 10, dtype=torch.float64), sums=features.sum(dim=0), products=flat.T @ flat)
