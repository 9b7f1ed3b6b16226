"""A table: cells that know their judgements and what the paper prints there; and what may be said of their differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from cross4d_train.evaluation.statistics import (
    SIGNIFICANCE,
    Spread,
    bootstrap_interval,
    holm,
    interval,
    mcnemar,
    paired_t,
    resample,
    spread,
)
from pipelines.experiment.tally import Tally
from pipelines.experiment.work import Judgement
from pipelines.paper.published import REPRODUCED, TITLES


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number of one judgement, by its dotted place in the result; that of its predictions, if it is an accuracy over videos, or how it
    follows from counts of videos; and the number the paper prints."""

    judgement: Judgement
    score: str
    predictions: str | None = None
    tally: Tally | None = None
    published: float | None = None


Place = tuple[str, str]
"""Row and column of a cell."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells by column. `reference` is the row that all others are tested against, column by column, but those that are `untested`;
    `pairs` are tested besides.

    `note` says what differs from the paper; `title` is for tables that are not the paper's.
    """

    number: int
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Cell]]
    reference: str | None = None
    note: str = ""
    title: str = ""
    untested: tuple[str, ...] = ()
    pairs: tuple[tuple[Place, Place], ...] = ()

    def comparisons(self) -> list[tuple[Place, Place]]:
        """Which cells are tested against which."""
        rows = [row for row in self.rows if self.reference is not None and row not in (self.reference, *self.untested)]
        return [((self.reference or "", column), (row, column)) for row in rows for column in self.columns] + list(self.pairs)

    @property
    def heading(self) -> str:
        """Its number and what it is about."""
        return f"{self.number}. {self.title}" if self.title else f"Table {self.number}: {TITLES[self.number]}"

    def cells(self) -> list[Cell]:
        """All of them."""
        return [cell for row in self.rows.values() for cell in row.values()]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A cell's numbers: the spread over seeds and, for accuracies, the 95 % interval over videos."""

    spread: Spread
    interval: tuple[float, float] | None
    published: float | None
    correct: list[list[bool]] = field(default_factory=list)
    draws: Float64[np.ndarray, " draw"] | None = None
    """The score of every draw of videos, where it follows from counts."""

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.published is None else self.spread.mean - self.published

    @property
    def reproduced(self) -> bool | None:
        """Whether it lies within what counts as reproduced."""
        return None if self.difference is None else round(abs(self.difference), 6) <= REPRODUCED


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One cell minus another, paired by seed and by video.

    `p` is that of the paired t-test over seeds and `holm` the same after Holm's correction over the table; `mcnemar` and the interval
    are over videos.
    """

    ours: Place
    theirs: Place
    gain: float
    interval: tuple[float, float] | None
    p: float | None
    holm: float | None
    mcnemar: float | None

    @property
    def verdict(self) -> str:
        """What may be said."""
        if self.holm is None:
            return "not tested"
        of_these_videos_only = self.interval is not None and self.interval[0] <= 0 <= self.interval[1]
        if self.holm >= SIGNIFICANCE or of_these_videos_only:
            return "no difference shown"
        return "higher" if self.gain > 0 else "lower"


def value_at(record: Any, place: str) -> Any:
    """What a dotted place of a JSON record holds; numbers count in lists."""
    for step in place.split("."):
        record = record[int(step)] if isinstance(record, list) else record[step]
    return record


def find(cell: Cell, seeds: int) -> Found:
    """The numbers of a cell from the results on disk."""
    results = [cell.judgement.with_seed(seed).result() for seed in range(seeds)]
    correct: list[list[bool]] = []
    if cell.predictions is not None:
        ordered = [sorted(value_at(result, cell.predictions), key=lambda item: str(item["id"])) for result in results]
        correct = [[item["action"] == item["predicted"] for item in items] for items in ordered]
    draws = None if cell.tally is None else _draws(cell.tally, results)
    of_videos = bootstrap_interval([sum(video) / len(video) for video in zip(*correct, strict=True)]) if correct else None
    return Found(
        spread=spread([float(value_at(result, cell.score)) for result in results]),
        interval=of_videos if draws is None else interval(draws),
        published=cell.published,
        correct=correct,
        draws=draws,
    )


def _draws(tally: Tally, results: Sequence[Mapping[str, Any]]) -> Float64[np.ndarray, " draw"] | None:
    """The mean over seeds of the score of every draw of videos; None of a single video, which says nothing about others."""
    scores = []
    for result in results:
        counts = [count for _, count in sorted(tally.read(result).items())]
        if len(counts) < 2:
            return None
        scores.append(tally.score(resample(len(counts)) @ np.stack(counts)))
    mean: Float64[np.ndarray, " draw"] = np.mean(scores, axis=0)
    return mean


def compare(table: Table, found: Mapping[tuple[str, str], Found]) -> list[Difference]:
    """All comparisons of a table; Holm's correction covers them, those that cannot be tested as well."""
    known = [(ours, theirs) for ours, theirs in table.comparisons() if ours in found and theirs in found]
    differences = [_difference(ours, theirs, found) for ours, theirs in known]
    corrected = holm({(item.ours, item.theirs): 1.0 if item.p is None else item.p for item in differences})
    return [replace(item, holm=None if item.p is None else corrected[item.ours, item.theirs]) for item in differences]


def _difference(of: Place, minus: Place, found: Mapping[Place, Found]) -> Difference:
    """What one cell gains over another, before any correction."""
    ours, theirs = found[of], found[minus]
    of_videos, by_video = None, None
    if ours.draws is not None and theirs.draws is not None:
        of_videos = interval(ours.draws - theirs.draws)
    elif ours.correct and theirs.correct:
        gains = [(sum(mine) - sum(other)) / len(mine) for mine, other in zip(_by_video(ours), _by_video(theirs), strict=True)]
        of_videos = bootstrap_interval(gains)
        by_video = mcnemar(*([right for seed in side.correct for right in seed] for side in (ours, theirs)))
    return Difference(
        ours=of,
        theirs=minus,
        gain=ours.spread.mean - theirs.spread.mean,
        interval=of_videos,
        p=paired_t(ours.spread.values, theirs.spread.values),
        holm=None,
        mcnemar=by_video,
    )


def _by_video(found: Found) -> list[tuple[bool, ...]]:
    return list(zip(*found.correct, strict=True))
