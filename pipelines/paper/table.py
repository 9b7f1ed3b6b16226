"""A table: cells that know their judgements and what the paper prints there; and what may be said of their differences."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cross4d_train.evaluation.statistics import SIGNIFICANCE, Spread, bootstrap_interval, holm, mcnemar, paired_t, spread
from pipelines.paper.published import REPRODUCED, TITLES
from pipelines.paper.work import Judgement


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number of one judgement, by its dotted place in the result; that of its predictions, if it is an accuracy over videos; and the
    number the paper prints."""

    judgement: Judgement
    score: str
    predictions: str | None = None
    published: float | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells by column. `reference` is the row that all others are tested against; `note` says what differs from the paper.

    `title` is for tables that are not the paper's; rows that are `untested` take no part in comparisons.
    """

    number: int
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Cell]]
    reference: str | None = None
    note: str = ""
    title: str = ""
    untested: tuple[str, ...] = ()

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
    """The reference row minus another, in one column, paired by seed and by video.

    `p` is that of the paired t-test over seeds and `holm` the same after Holm's correction over the table; `mcnemar` and the interval
    are over videos.
    """

    row: str
    column: str
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
        return ("higher" if self.gain > 0 else "lower") if self.holm < SIGNIFICANCE else "no difference shown"


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
    return Found(
        spread=spread([float(value_at(result, cell.score)) for result in results]),
        interval=bootstrap_interval([sum(video) / len(video) for video in zip(*correct, strict=True)]) if correct else None,
        published=cell.published,
        correct=correct,
    )


def compare(table: Table, found: Mapping[tuple[str, str], Found]) -> list[Difference]:
    """The reference against every other row, column by column; Holm's correction covers the table."""
    if table.reference is None:
        return []
    differences: list[Difference] = []
    for row in table.rows:
        for column in table.columns:
            ours, theirs = found.get((table.reference, column)), found.get((row, column))
            if row in (table.reference, *table.untested) or ours is None or theirs is None:
                continue
            differences.append(_difference(row, column, ours, theirs))
    corrected = holm({(item.row, item.column): item.p for item in differences if item.p is not None})
    return [replace(item, holm=corrected.get((item.row, item.column))) for item in differences]


def _difference(row: str, column: str, ours: Found, theirs: Found) -> Difference:
    """What the reference gains over a row in a column, before any correction."""
    interval, by_video = None, None
    if ours.correct and theirs.correct:
        gains = [(sum(mine) - sum(other)) / len(mine) for mine, other in zip(_by_video(ours), _by_video(theirs), strict=True)]
        interval = bootstrap_interval(gains)
        by_video = mcnemar(*([right for seed in side.correct for right in seed] for side in (ours, theirs)))
    return Difference(
        row=row,
        column=column,
        gain=ours.spread.mean - theirs.spread.mean,
        interval=interval,
        p=paired_t(ours.spread.values, theirs.spread.values),
        holm=None,
        mcnemar=by_video,
    )


def _by_video(found: Found) -> list[tuple[bool, ...]]:
    return list(zip(*found.correct, strict=True))
