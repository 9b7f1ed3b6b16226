"""Whether settings suit the data: what is right for the benchmarks' bodies and short videos need not be for what others record."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from cross4d_cache.store import Cache
from cross4d_train.encoders import ENCODERS, outline_encoder
from cross4d_train.loop import Pretraining

SAMPLE, QUERIES = 8, 256
"""Sequences of which a frame is looked at, and points of it."""

LEAST_SEEN = 0.1
"""Share of the frames that an epoch has to see at least."""


def remarks(training: Pretraining) -> Iterator[str]:
    """What the defaults hardly mean for this store: frames that are never seen, neighbourhoods that hold a single point."""
    plan, cache = training.plan, training.dataset.cache
    frames = sum(cache.info(index).num_frames for index in plan.chosen)
    seen = len(plan.chosen) * plan.clips_per_sequence * plan.clips.num_frames
    if seen < LEAST_SEEN * frames:
        yield (
            f"an epoch sees {seen:,} of {frames:,} frames at most: sequences are long. `training.clips_per_sequence`"
            f" {-(-frames * plan.clips_per_sequence // seen)} sees about all of them"
        )
    reach = training.encoder.reach
    if reach is not None and count_neighbours(cache, plan.chosen, reach, plan.clips.num_points) < 1:
        larger = [f"{name} ({wider:g} m)" for name, wider in _reaches() if wider > reach]
        yield (
            f"half of the points have no other within {reach:g} m, where the first layer of the encoder looks: radii suit bodies"
            + ("; wider ones: " + ", ".join(larger) if larger else "")
        )


def count_neighbours(cache: Cache, chosen: tuple[int, ...], reach: float, num_points: int) -> float:
    """How many others half of the points have within `reach` (metres) of them at most, once frames are resampled to `num_points`.

    Looked at in the middle frame of some of the chosen sequences.
    """
    counts = []
    for place in np.unique(np.linspace(0, len(chosen) - 1, min(len(chosen), SAMPLE)).astype(int)).tolist():
        index = chosen[place]
        middle = np.array([cache.info(index).num_frames // 2])
        points = torch.from_numpy(cache.read_clip(index, middle, targets=False).points)
        counts.append(others_within(points, reach) * min(1.0, num_points / len(points)))
    return float(torch.cat(counts).median())


def others_within(points: Float32[Tensor, "point 3"], reach: float) -> Int64[Tensor, " query"]:
    """How many others some of the points, evenly chosen, have within `reach`; points at the same place are others."""
    queries = points[:: -(-len(points) // QUERIES)]
    return (torch.cdist(queries, points, compute_mode="donot_use_mm_for_euclid_dist") <= reach).sum(dim=1) - 1


def _reaches() -> Iterator[tuple[str, float]]:
    for name, kind in ENCODERS.built_in.items():
        for size, config in kind.sizes.items():
            if (reach := outline_encoder(kind, config).reach) is not None:
                yield f"{name} {size}", reach
