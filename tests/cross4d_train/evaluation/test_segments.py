from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cross4d_train.evaluation.segments import Matches, Segment, edit_score, levenshtein, match_segments, segments

LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=14)


def test_segments_are_runs():
    assert segments([4, 4, 1, 1, 1, 4]) == [Segment(4, 0, 2), Segment(1, 2, 5), Segment(4, 5, 6)]
    assert segments([]) == []


@settings(derandomize=True, deadline=None)
@given(LABELS, LABELS)
def test_levenshtein_against_the_recursive_definition(first, second):
    @cache
    def distance(i, j):
        if i == 0 or j == 0:
            return i + j
        same = first[i - 1] == second[j - 1]
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (not same))

    assert levenshtein(first, second) == distance(len(first), len(second))


def test_the_edit_score_ignores_how_long_segments_are():
    assert edit_score([0, 0, 0, 1], [0, 1, 1, 1]) == 1
    assert edit_score([0, 1, 0, 1], [0, 0, 1, 1]) == pytest.approx(0.5), "two of four segments too many"


@settings(derandomize=True, deadline=None)
@given(st.data(), st.sampled_from([0.1, 0.25, 0.5]))
def test_matches_against_the_slow_reference(data, overlap):
    true = data.draw(LABELS)
    predicted = data.draw(st.lists(st.integers(0, 3), min_size=len(true), max_size=len(true)))
    claimed, hits = set(), 0
    for segment in segments(predicted):
        frames = set(range(segment.start, segment.stop))
        shares = []
        for other in segments(true):
            theirs = set(range(other.start, other.stop))
            shares.append(len(frames & theirs) / len(frames | theirs) if other.action == segment.action else 0)
        best = max(range(len(shares)), key=lambda number: shares[number])
        if shares[best] >= overlap and best not in claimed:
            claimed.add(best)
            hits += 1
    expected = Matches(hits, len(segments(predicted)) - hits, len(segments(true)) - hits)
    assert match_segments(predicted, true, overlap) == expected


def test_f1():
    assert match_segments([1, 1, 2, 2], [1, 1, 2, 2], 0.5).f1 == 1
    assert match_segments([1, 1, 1, 1], [2, 2, 2, 2], 0.1).f1 == 0
    assert (Matches(1, 2, 3) + Matches(1, 0, 1)) == Matches(2, 2, 4)
    assert Matches(2, 2, 4).f1 == pytest.approx(2 * 0.5 * (1 / 3) / (0.5 + 1 / 3))


def test_segments_matched_by_hand():
    """Truth: 0 in frames 0-3, 1 in 4-9. Predicted: 0 in 0-1, 1 in 2-4, 0 in 5, 1 in 6-9.

    Overlaps: 0-1 with 0-3 is 2/4; 2-4 with 4-9 is 1/8; 5 with 0-3 is 0; 6-9 with 4-9 is 4/6.
    """
    true, predicted = [0] * 4 + [1] * 6, [0, 0, 1, 1, 1, 0, 1, 1, 1, 1]
    assert match_segments(predicted, true, 0.5) == Matches(2, 2, 0)
    assert match_segments(predicted, true, 0.51) == Matches(1, 3, 1)
    assert match_segments(predicted, true, 0.1) == Matches(2, 2, 0), "2-4 claims 4-9 first, so 6-9 finds it taken"
    assert edit_score(predicted, true) == pytest.approx(0.5), "0101 against 01: two of four too many"
