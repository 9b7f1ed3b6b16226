"""Scores that are no mean over videos: counts that add up over videos, and what follows from their sums."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

Counts = Float64[np.ndarray, "*draw count"]
Scores = Float64[np.ndarray, "*draw"]


@dataclass(frozen=True, kw_only=True)
class Tally:
    """`read` gives the counts of each video of a result, by its id; `score` is of their sums, over the last axis."""

    read: Callable[[Mapping[str, Any]], Mapping[str, Float64[np.ndarray, " count"]]]
    score: Callable[[Counts], Scores]


def matches(gap: int, matcher: str) -> Tally:
    """The share of right matches across gap number `gap`, by features, coordinates or chance."""
    column = 1 + ("features", "coordinates", "chance").index(matcher)

    def read(result: Mapping[str, Any]) -> dict[str, Float64[np.ndarray, " count"]]:
        videos = result["scores"][gap]["videos"]
        return {name: np.array([counts[0], counts[column]], np.float64) for name, counts in videos.items()}

    return Tally(read=read, score=lambda sums: sums[..., 1] / np.maximum(sums[..., 0], 1))


def parts(measure: str) -> Tally:
    """`mean_iou`, `mean_accuracy` or `overall_accuracy` of a segmentation; means are over the labels that occur among the videos drawn."""

    def read(result: Mapping[str, Any]) -> dict[str, Float64[np.ndarray, " count"]]:
        labels = list(result["labels"])  # JSON makes words of numbers
        return {
            video["id"]: np.array([video[kind].get(label, 0) for kind in ("labelled", "predicted", "both") for label in labels], np.float64)
            for video in result["videos"]
        }

    def score(sums: Counts) -> Scores:
        labelled, predicted, both = np.split(sums, 3, axis=-1)
        if measure == "overall_accuracy":
            overall: Scores = both.sum(axis=-1) / np.maximum(labelled.sum(axis=-1), 1)
            return overall
        of = labelled + predicted - both if measure == "mean_iou" else labelled
        shares = np.where(labelled > 0, both / np.maximum(of, 1), 0)
        mean: Scores = shares.sum(axis=-1) / np.maximum((labelled > 0).sum(axis=-1), 1)
        return mean

    return Tally(read=read, score=score)
