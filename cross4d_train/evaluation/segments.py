"""How well a labelling of frames agrees with the truth as a list of segments (Lea et al. 2017; Farha and Gall 2019)."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64


class Segment(NamedTuple):
    """Frames `start` to `stop`, the latter not included, of one action."""

    action: int
    start: int
    stop: int


class Matches(NamedTuple):
    """Predicted segments that match a true one, those that do not, and true ones that nothing matches."""

    true_positives: int
    false_positives: int
    false_negatives: int

    def __add__(self, other: "Matches") -> "Matches":  # type: ignore[override]
        return Matches(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0 without a match."""
        return 2 * self.true_positives / max(2 * self.true_positives + self.false_positives + self.false_negatives, 1)


def segments(actions: Sequence[int]) -> list[Segment]:
    """Runs of equal actions."""
    found, start = [], 0
    for action, run in groupby(actions):
        stop = start + len(list(run))
        found.append(Segment(action, start, stop))
        start = stop
    return found


def edit_score(predicted: Sequence[int], true: Sequence[int]) -> float:
    """1 minus the Levenshtein distance of the orders of segments, as a share of the longer one."""
    ours, theirs = ([segment.action for segment in segments(actions)] for actions in (predicted, true))
    return 1 - levenshtein(ours, theirs) / max(len(ours), len(theirs), 1)


def levenshtein(first: Sequence[int], second: Sequence[int]) -> int:
    """Fewest insertions, deletions and replacements that make one list of the other."""
    row = list(range(len(second) + 1))
    for count, mine in enumerate(first, start=1):
        diagonal, row[0] = row[0], count
        for place, other in enumerate(second, start=1):
            diagonal, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, diagonal + (mine != other))
    return row[-1]


def match_segments(predicted: Sequence[int], true: Sequence[int], overlap: float) -> Matches:
    """Each predicted segment, in order, claims the true one of its action that it overlaps most, if that is by at least `overlap` (an
    intersection over union) and nobody claimed it before.
    """
    ours, theirs = segments(predicted), segments(true)
    free: Int64[np.ndarray, " segment"] = np.ones(len(theirs), dtype=np.int64)
    starts, stops = (np.array([getattr(segment, name) for segment in theirs]) for name in ("start", "stop"))
    actions = np.array([segment.action for segment in theirs])
    hits = 0
    for segment in ours:
        both = np.maximum(0, np.minimum(segment.stop, stops) - np.maximum(segment.start, starts))
        either = np.maximum(segment.stop, stops) - np.minimum(segment.start, starts)
        share: Float64[np.ndarray, " segment"] = both / either * (actions == segment.action)
        best = int(share.argmax())
        if share[best] >= overlap and free[best]:
            hits, free[best] = hits + 1, 0
    return Matches(hits, len(ours) - hits, len(theirs) - hits)
