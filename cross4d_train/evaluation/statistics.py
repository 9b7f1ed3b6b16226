"""What may be said of results: spreads over seeds, paired tests between methods, corrections, intervals over videos.

Seeds say whether training again would give the same, videos whether other videos would; a difference between two methods is called one only
if it stands both tests.
"""

from collections.abc import Hashable, Mapping, Sequence
from statistics import mean, stdev
from typing import TypeVar

import numpy as np
from jaxtyping import Float64
from scipy.stats import binomtest, t, ttest_rel

from cross4d_cache.record import Record

SIGNIFICANCE = 0.05
ROUNDING = 1e-9
"""Differences that vary by less are equal, and a test of them would divide by zero."""
NUM_RESAMPLES = 2000

Key = TypeVar("Key", bound=Hashable)


class Spread(Record):
    """Mean, deviation (of the sample, 0 for a single value) and, of two or more, the 95 % t-interval of the mean."""

    values: tuple[float, ...]
    mean: float
    std: float
    low: float | None
    high: float | None


def spread(values: Sequence[float]) -> Spread:
    """The spread of one number over seeds."""
    centre, count = mean(values), len(values)
    if count == 1:
        return Spread(values=tuple(values), mean=centre, std=0.0, low=None, high=None)
    deviation = stdev(values)
    half = float(t.ppf(0.975, count - 1)) * deviation / count**0.5
    return Spread(values=tuple(values), mean=centre, std=deviation, low=centre - half, high=centre + half)


def paired_t(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Two-sided p of a paired t-test over seeds; 1 if no pair differs, None with fewer than two pairs, or if all differ by the same."""
    gains = [mine - other for mine, other in zip(ours, theirs, strict=True)]
    if len(gains) > 1 and max(map(abs, gains)) <= ROUNDING:
        return 1.0
    if len(gains) < 2 or max(gains) - min(gains) <= ROUNDING:
        return None
    return float(ttest_rel(ours, theirs).pvalue)


def mcnemar(ours: Sequence[bool], theirs: Sequence[bool]) -> float:
    """Two-sided exact p of McNemar's test: of the videos that only one method has right, is each as often the one?

    With predictions of several seeds it takes a video once a seed, as if seeds were independent; read it beside `paired_t`.
    """
    only_ours = sum(mine and not other for mine, other in zip(ours, theirs, strict=True))
    only_theirs = sum(other and not mine for mine, other in zip(ours, theirs, strict=True))
    if only_ours + only_theirs == 0:
        return 1.0
    return float(binomtest(only_ours, only_ours + only_theirs).pvalue)


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """The p values of one table after Holm's step-down correction."""
    corrected: dict[Key, float] = {}
    highest = 0.0
    for place, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        highest = max(highest, min(1.0, p_values[key] * (len(p_values) - place)))
        corrected[key] = highest
    return corrected


def bootstrap_interval(shares: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95 % interval of a mean over videos, which are drawn anew: of an accuracy, or of the difference of two on the same videos.

    A video's share is the mean over seeds of whether it was right, or the difference of two such means.
    """
    return interval(resample(len(shares), seed) @ np.asarray(shares, dtype=np.float64) / len(shares))


def resample(num_videos: int, seed: int = 0) -> Float64[np.ndarray, "draw {num_videos}"]:
    """How often each video is drawn, with replacement, in each of many draws of as many videos."""
    drawn = np.random.default_rng(seed).integers(num_videos, size=(NUM_RESAMPLES, num_videos))
    counts = np.zeros((NUM_RESAMPLES, num_videos))
    np.add.at(counts, (np.arange(NUM_RESAMPLES)[:, None], drawn), 1)
    return counts


def interval(scores: Float64[np.ndarray, " draw"]) -> tuple[float, float]:
    """The middle 95 % of the scores of all draws."""
    low, high = np.quantile(scores, [0.025, 0.975])
    return float(low), float(high)
