import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from cross4d_train.evaluation.statistics import bootstrap_interval, holm, mcnemar, paired_t, spread


def test_a_spread_has_the_interval_of_the_t_distribution():
    found = spread([0.5, 0.6, 0.7])
    assert found.mean == pytest.approx(0.6)
    assert found.std == pytest.approx(0.1)
    assert found.high - found.mean == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-5)
    single = spread([0.4])
    assert (single.mean, single.std, single.low, single.high) == (0.4, 0, None, None)


def test_the_paired_test_is_that_of_the_differences():
    ours, theirs = [0.5, 0.6, 0.8, 0.7], [0.4, 0.55, 0.6, 0.65]
    expected = ttest_1samp(np.subtract(ours, theirs), 0).pvalue
    assert paired_t(ours, theirs) == pytest.approx(expected)
    assert paired_t([0.5], [0.4]) is None
    assert paired_t([0.5, 0.6], [0.4, 0.5]) is None, "equal differences have no deviation"
    assert paired_t([0.5, 0.6], [0.5, 0.6]) == 1.0, "no pair differs"


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_mcnemar_counts_coin_flips(pairs):
    """The slow reference: all ways in which the videos that differ could have fallen."""
    ours, theirs = zip(*pairs, strict=True)
    wins = sum(mine and not other for mine, other in pairs)
    losses = sum(other and not mine for mine, other in pairs)
    count = wins + losses
    far = abs(wins - count / 2)
    ways = [sum(flips) for flips in itertools.product((0, 1), repeat=count)]
    expected = sum(abs(way - count / 2) >= far for way in ways) / len(ways)
    assert mcnemar(ours, theirs) == pytest.approx(expected)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_against_its_definition(values):
    """Of sorted p values, the largest of (m - i) p_i so far, at most 1."""
    found = holm(dict(enumerate(values)))
    ordered = sorted(range(len(values)), key=lambda key: values[key])
    for place, key in enumerate(ordered):
        steps = [min(1.0, (len(values) - earlier) * values[ordered[earlier]]) for earlier in range(place + 1)]
        assert found[key] == pytest.approx(max(steps))
        assert found[key] >= values[key]


def test_the_bootstrap_holds_the_mean_and_narrows_with_videos():
    few, many = ([1.0, 0.0] * count for count in (10, 1000))
    (low, high), (lower, higher) = bootstrap_interval(few), bootstrap_interval(many)
    assert low < 0.5 < high
    assert lower < 0.5 < higher
    assert (higher - lower) < (high - low) / 5
    # The normal approximation of a share over 2,000 videos.
    assert higher - lower == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 2000), rel=0.1)
    assert bootstrap_interval(few) == (low, high)
    assert bootstrap_interval([1.0] * 5) == (1, 1)
