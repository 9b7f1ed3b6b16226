"""What may be said of results: spreads over seeds, paired tests between methods, corrections, intervals over videos.

A difference between two methods is called one only if the paired test says so after Holm's correction over its table.
"""

from collections.abc import Hashable, Mapping, Sequence
from statistics import mean, stdev
from typing import TypeVar

import numpy as np
from jaxtyping import Float64
from pydantic import BaseModel, ConfigDict
from scipy.stats import binomtest, t, ttest_rel

SIGNIFICANCE = 0.05
ROUNDING = 1e-9
"""Differences that vary by less are equal, and a test of them would divide by zero."""
NUM_RESAMPLES = 2000

Key = TypeVar("Key", bound=Hashable)


class Spread(BaseModel):
    """Mean, deviation (of the sample, 0 for a single value) and, of two or more, the 95 % t-interval of the mean."""

    model_config = ConfigDict(frozen=True)

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
    """Two-sided p of a paired t-test over seeds; None with fewer than two pairs, or if all differ by the same."""
    gains = [mine - other for mine, other in zip(ours, theirs, strict=True)]
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
    values: Float64[np.ndarray, " video"] = np.asarray(shares, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(NUM_RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
