"""A table: cells that know their evaluations and what the paper prints there; and what may be said of their differences."""

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
from pipelines.experiment.work import EvaluationRun
from pipelines.paper.published import REPRODUCED, TITLES


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number of an evaluation, by its dotted place in the result; that of its predictions, if it is an accuracy over videos, or how it
    follows from counts of videos; and the number the paper prints.

    Several runs are the same on stores of different data; each seed of each is a value of its own.
    """

    runs: tuple[EvaluationRun, ...]
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

    Columns that are `shown` are tested against nothing. Holm's correction covers the table or, `by_column`, each column by itself.
    `note` says what differs from the paper; `title` is for tables that are not the paper's.
    """

    number: int
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Cell]]
    reference: str | None = None
    note: str = ""
    title: str = ""
    untested: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    by_column: bool = False
    pairs: tuple[tuple[Place, Place], ...] = ()

    def comparisons(self) -> list[tuple[Place, Place]]:
        """Which cells are tested against which."""
        rows = [row for row in self.rows if self.reference is not None and row not in (self.reference, *self.untested)]
        columns = [column for column in self.columns if column not in self.shown]
        return [((self.reference or "", column), (row, column)) for row in rows for column in columns] + list(self.pairs)

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
    by_seed = [[run.with_seed(seed).result() for run in cell.runs] for seed in range(seeds)]
    results = [result for of_seed in by_seed for result in of_seed]
    correct = [] if cell.predictions is None else [_correct(of_seed, cell.predictions) for of_seed in by_seed]
    draws = None if cell.tally is None else _draws(cell.tally, results)
    of_videos = bootstrap_interval([sum(video) / len(video) for video in zip(*correct, strict=True)]) if correct else None
    return Found(
        spread=spread([float(value_at(result, cell.score)) for result in results]),
        interval=of_videos if draws is None else interval(draws),
        published=cell.published,
        correct=correct,
        draws=draws,
    )


def _correct(results: Sequence[Mapping[str, Any]], predictions: str) -> list[bool]:
    """Which videos are right, by id, store after store."""
    ordered = [sorted(value_at(result, predictions), key=lambda item: str(item["id"])) for result in results]
    return [item["action"] == item["predicted"] for items in ordered for item in items]


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
    """All comparisons of a table; Holm's correction covers them, those that cannot be tested as well, or those of a column each."""
    known = [(ours, theirs) for ours, theirs in table.comparisons() if ours in found and theirs in found]
    differences = [_difference(ours, theirs, found) for ours, theirs in known]
    corrected: dict[tuple[Place, Place], float] = {}
    for family in {item.ours[1] if table.by_column else "" for item in differences}:
        covered = [item for item in differences if not table.by_column or item.ours[1] == family]
        corrected |= holm({(item.ours, item.theirs): 1.0 if item.p is None else item.p for item in covered})
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


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A table with its numbers and the differences from its reference row."""

    table: Table
    found: Mapping[Place, Found]
    differences: Sequence[Difference]


def finish(table: Table, seeds: int) -> Finished:
    """A table whose evaluations are done for so many seeds."""
    found = {(row, column): find(cell, seeds) for row, cells in table.rows.items() for column, cell in cells.items()}
    return Finished(table=table, found=found, differences=compare(table, found))
