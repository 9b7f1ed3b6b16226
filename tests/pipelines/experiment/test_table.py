"""What a table says of its cells and of their differences."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cross4d_train.evaluation.statistics import mcnemar, paired_t
from cross4d_train.settings import EncoderSettings
from pipelines.experiment.report import markdown, record
from pipelines.experiment.table import Cell, Finished, Found, Table, compare, find, finish, value_at
from pipelines.experiment.tally import Tally, matches, parts
from pipelines.experiment.work import EvaluationRun, Store, Student

VIDEOS = 20


class Told(EvaluationRun):
    """An evaluation whose results are made up: of `right` of the videos, one fewer each seed."""

    right: int

    def result(self) -> dict[str, object]:
        count = self.right - self.student.seed
        items = [{"id": f"v{video}", "action": 1, "predicted": int(video < count)} for video in range(VIDEOS)]
        return {"raw": {"video_accuracy": count / VIDEOS, "predictions": items[::-1]}}


def make_cell(right: int, published: float | None = None, predictions: str | None = "raw.predictions") -> Cell:
    store = Store(path=Path("s.zarr"))
    run = Told(kind="probe", root=Path(), student=Student(name="s"), encoder=EncoderSettings(), store=store, options={}, right=right)
    return Cell(runs=(run,), score="raw.video_accuracy", predictions=predictions, published=published)


def make_table(**rows: Cell) -> Table:
    return Table(number=1, columns=("raw",), rows={name: {"raw": cell} for name, cell in rows.items()}, reference="dense")


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
    assert (item.ours, item.theirs, item.gain) == (("dense", "raw"), ("untrained", "raw"), pytest.approx(0.6))
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
    differences = {item.theirs[0]: item for item in compare(table, found)}
    first = paired_t(values["dense"], values["one"])
    assert first is not None
    assert differences["one"].holm == pytest.approx(2 * first)
    assert differences["one"].verdict == "higher"
    assert differences["two"].verdict == "no difference shown"


def test_a_gain_that_hangs_on_a_few_videos_is_not_called_one() -> None:
    """Seeds that agree say nothing about other videos."""
    table = make_table(one=make_cell(10), dense=make_cell(11))
    found = {(row, "raw"): find(cells["raw"], 3) for row, cells in table.rows.items()}
    dense = found["dense", "raw"]
    found["dense", "raw"] = replace(dense, spread=dense.spread.model_copy(update={"values": (0.56, 0.5, 0.46)}))
    (item,) = compare(table, found)
    assert item.holm is not None
    assert item.holm < 0.05
    assert item.interval is not None
    assert item.interval[0] <= 0
    assert item.verdict == "no difference shown"


def test_what_cannot_be_tested_still_counts_in_the_correction() -> None:
    table = make_table(same=make_cell(12), other=make_cell(9, predictions=None), dense=make_cell(15))
    found = {(row, "raw"): find(cells["raw"], 3) for row, cells in table.rows.items()}
    other = found["other", "raw"]
    found["other", "raw"] = replace(other, spread=other.spread.model_copy(update={"values": (0.4, 0.45, 0.3)}))
    same, changed = compare(table, found)
    assert (same.p, same.verdict) == (None, "not tested")
    assert changed.p is not None
    assert changed.holm == pytest.approx(2 * changed.p)


def test_cells_of_any_two_places_are_compared() -> None:
    table = replace(make_table(dense=make_cell(15)), reference=None, pairs=((("dense", "raw"), ("dense", "std")),))
    found = {("dense", "raw"): find(make_cell(15), 2), ("dense", "std"): find(make_cell(12), 2)}
    (item,) = compare(table, found)
    assert item.gain == pytest.approx(0.15)
    assert "| dense | raw minus std | +0.150 [" in markdown(Finished(table=table, found=found, differences=[item]))


class Counted(Told):
    """An evaluation of parts and matches."""

    def result(self) -> dict[str, object]:
        rng = np.random.default_rng(self.student.seed)
        videos, gaps = [], {}
        for number in range(6):
            labelled, both = rng.integers(20, 40, 2), rng.integers(0, 20, 2)
            counts = [{"0": int(a), "2": int(b)} for a, b in (labelled, both + 5, both)]
            videos.append({"id": f"v{number}", "labelled": counts[0], "predicted": counts[1], "both": counts[2]})
            gaps[f"v{number}"] = [50, int(rng.integers(50)), 25, 1]
        return {
            "labels": {"0": "leg", "2": "arm"},
            "videos": videos,
            "scores": [{"gap": 3, "features": 0.5, "videos": gaps}],
            "mean_iou": 0.4,
        }


@pytest.mark.parametrize("tally", [parts("mean_iou"), parts("mean_accuracy"), parts("overall_accuracy"), matches(0, "features")])
def test_scores_of_counts_have_intervals(tally: Tally) -> None:
    cell = make_cell(1)
    run = Counted(**{name: getattr(cell.runs[0], name) for name in EvaluationRun.model_fields} | {"right": 1})
    found = find(Cell(runs=(run,), score="mean_iou", tally=tally), 2)
    whole = np.mean([tally.score(sum(tally.read(run.with_seed(seed).result()).values())) for seed in range(2)])  # type: ignore[arg-type]
    assert found.interval is not None
    assert found.interval[0] < whole < found.interval[1]
    assert found.draws is not None
    assert found.draws.mean() == pytest.approx(whole, abs=0.02)


def test_a_single_video_has_no_interval() -> None:
    alone = Tally(read=lambda result: {"v": np.array([1.0, 2.0])}, score=lambda sums: sums[..., 0] / sums[..., 1])
    found = find(replace(make_cell(1), tally=alone, predictions=None), 2)
    assert (found.interval, found.draws) == (None, None)


def test_scores_of_counts_are_those_of_their_definition() -> None:
    sums = np.array([10.0, 20, 0, 5, 40, 3, 5, 15, 0])  # labelled, predicted, both of three labels, one of which never occurs
    assert parts("mean_iou").score(sums) == pytest.approx((5 / 10 + 15 / 45) / 2)
    assert parts("mean_accuracy").score(sums) == pytest.approx((5 / 10 + 15 / 20) / 2)
    assert parts("overall_accuracy").score(sums) == pytest.approx(20 / 30)
    assert matches(0, "chance").score(np.array([8.0, 2])) == pytest.approx(0.25)


def test_reports_show_ours_beside_the_paper_s() -> None:
    finished = finish(make_table(untrained=make_cell(6, 0.25), dense=make_cell(18, 0.5)), 2)
    text = markdown(finished)
    assert "(paper 0.250: +0.025, within .03)" in text
    assert "(paper 0.500: +0.375, outside .03)" in text
    assert "| dense minus untrained | raw | +0.600 [" in text
    cell = record(finished)["cells"]["dense"]["raw"]
    assert (cell["published"], cell["reproduced"]) == (0.5, False)


def test_places_in_records() -> None:
    assert value_at({"scores": [{"raw": 1}, {"raw": 2}]}, "scores.1.raw") == 2


def test_holm_corrects_over_the_table_or_over_each_column() -> None:
    """0.01 x 4; 0.03 x 3; 0.02 x 2 would lie below the one before; 0.6 x 1; beside them a column of a single test."""
    p = {"untrained": 0.01, "global": 0.03, "centred": 0.04, "shuffled": 0.6}
    cells = {
        name: {"raw": make_cell(9), "std": make_cell(9)} if name in ("dense", "global") else {"raw": make_cell(9)} for name in ("dense", *p)
    }
    table = Table(number=1, columns=("raw", "std"), rows=cells, reference="dense")
    found = {(row, column): find(cell, 2) for row, columns in cells.items() for column, cell in columns.items()}

    def of(table: Table) -> dict[tuple[str, str], float | None]:
        with pytest.MonkeyPatch.context() as patch:
            asked = [item.theirs for item in compare(table, found)]
            told = iter([p[row] if column == "raw" else 0.5 for row, column in asked])
            patch.setattr("pipelines.experiment.table.paired_t", lambda ours, theirs: next(told))
            return {item.theirs: item.holm for item in compare(table, found)}

    by_column = of(replace(table, by_column=True))
    assert by_column == pytest.approx(
        {("untrained", "raw"): 0.04, ("global", "raw"): 0.09, ("centred", "raw"): 0.09, ("shuffled", "raw"): 0.6, ("global", "std"): 0.5}
    )
    whole = of(table)
    assert whole[("untrained", "raw")] == pytest.approx(0.05)
    assert whole[("global", "std")] == pytest.approx(1.0)


def test_shown_columns_are_tested_against_nothing() -> None:
    table = replace(make_table(one=make_cell(10), dense=make_cell(11)), shown=("raw",))
    assert table.comparisons() == []


def test_runs_on_several_stores_are_values_of_their_own_and_videos_of_one_list() -> None:
    one, other = make_cell(15).runs[0], make_cell(11).runs[0]
    found = find(Cell(runs=(one, other), score="raw.video_accuracy", predictions="raw.predictions"), 2)
    assert found.spread.values == (0.75, 0.55, 0.7, 0.5)
    assert [sum(seed) for seed in found.correct] == [26, 24]
    assert [len(seed) for seed in found.correct] == [2 * VIDEOS] * 2
