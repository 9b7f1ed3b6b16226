"""What a table says of its cells and of their differences."""

from pathlib import Path

import pytest

from cross4d_train.evaluation.statistics import mcnemar, paired_t
from cross4d_train.settings import EncoderSettings
from pipelines.paper.report import Finished, markdown, record
from pipelines.paper.table import Cell, Found, Judgement, Table, compare, find, value_at
from pipelines.paper.work import Store, Student

VIDEOS = 20


class Told(Judgement):
    """A judgement whose results are made up: of `right` of the videos, one fewer each seed."""

    right: int

    def result(self) -> dict[str, object]:
        count = self.right - self.student.seed
        items = [{"id": f"v{video}", "action": 1, "predicted": int(video < count)} for video in range(VIDEOS)]
        return {"raw": {"video_accuracy": count / VIDEOS, "predictions": items[::-1]}}


def make_cell(right: int, published: float | None = None, predictions: str | None = "raw.predictions") -> Cell:
    store = Store(path=Path("s.zarr"), words=())
    judgement = Told(kind="probe", root=Path(), student=Student(name="s"), encoder=EncoderSettings(), store=store, options={}, right=right)
    return Cell(judgement=judgement, score="raw.video_accuracy", predictions=predictions, published=published)


def make_table(**rows: Cell) -> Table:
    return Table(number=1, columns=("raw",), rows={name: {"raw": cell} for name, cell in rows.items()}, reference="dense")


def finish(table: Table, seeds: int) -> Finished:
    found = {(row, column): find(cell, seeds) for row, cells in table.rows.items() for column, cell in cells.items()}
    return Finished(table=table, found=found, differences=compare(table, found))


def test_a_cell_is_a_spread_over_seeds_with_an_interval_over_videos() -> None:
    found = find(make_cell(15, published=0.71), 3)
    assert found.spread.values == (0.75, 0.7, 0.65)
    assert found.interval is not None
    assert found.interval[0] < 0.7 < found.interval[1]
    assert found.difference == pytest.approx(-0.01)
    assert found.reproduced
    assert not find(make_cell(15, published=0.74), 3).reproduced
    assert find(make_cell(15, predictions=None), 3).interval is None


def test_differences_are_paired_by_seed_and_by_video() -> None:
    finished = finish(make_table(untrained=make_cell(6), dense=make_cell(18)), 3)
    (item,) = finished.differences
    assert (item.row, item.gain) == ("untrained", pytest.approx(0.6))
    assert item.p is None, "all seeds gain the same"
    assert item.verdict == "not tested"
    ours, theirs = ([video < right - seed for seed in range(3) for video in range(VIDEOS)] for right in (18, 6))
    assert item.mcnemar == pytest.approx(mcnemar(ours, theirs))
    assert item.interval is not None
    assert item.interval[0] > 0.3


def test_a_difference_is_called_one_only_after_correction() -> None:
    values = {"dense": (0.9, 0.8, 0.85), "one": (0.5, 0.45, 0.44), "two": (0.8, 0.75, 0.85)}
    table = make_table(**{name: make_cell(1, predictions=None) for name in values})
    known = find(make_cell(9, predictions=None), 3)
    found = {
        (name, "raw"): Found(spread=known.spread.model_copy(update={"values": row, "mean": sum(row) / 3}), interval=None, published=None)
        for name, row in values.items()
    }
    differences = {item.row: item for item in compare(table, found)}
    first = paired_t(values["dense"], values["one"])
    assert first is not None
    assert differences["one"].holm == pytest.approx(2 * first)
    assert differences["one"].verdict == "higher"
    assert differences["two"].verdict == "no difference shown"


def test_reports_show_ours_beside_the_paper_s() -> None:
    finished = finish(make_table(untrained=make_cell(6, 0.25), dense=make_cell(18, 0.5)), 2)
    text = markdown(finished)
    assert "(paper 0.250: +0.025, within .03)" in text
    assert "(paper 0.500: +0.375, outside .03)" in text
    assert "| untrained | raw | +0.600 [" in text
    cell = record(finished)["cells"]["dense"]["raw"]
    assert (cell["published"], cell["reproduced"]) == (0.5, False)


def test_places_in_records() -> None:
    assert value_at({"scores": [{"raw": 1}, {"raw": 2}]}, "scores.1.raw") == 2
