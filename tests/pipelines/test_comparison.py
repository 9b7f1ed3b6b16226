"""Tables of many runs: what is averaged, paired and corrected, and that a finished run is never repeated."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scipy import stats

from cross4d_train.clips import ClipSettings
from cross4d_train.evaluation.finetune import TuningScore, TuningSettings
from cross4d_train.evaluation.held_out import HeldOutLoss
from cross4d_train.evaluation.linear import HeadSettings
from cross4d_train.evaluation.part_probe import PartScore
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.settings import EncoderSettings
from pipelines import comparison, tables
from pipelines.comparison import Row, plan_jobs, run_jobs
from pipelines.judging import Budget, Job, Outcome, run_job
from pipelines.tables import best_rates, describe, report, summarise
from tests.cross4d_train.conftest import make_infos, write_store

BUDGET = Budget(
    encoder=EncoderSettings(size="tiny"),
    clips=ClipSettings(num_frames=3, num_points=48, stride=1),
    num_epochs=2,
    clips_per_sequence=1,
    protocol="cross-subject",
    num_windows=2,
    head=HeadSettings(num_epochs=3),
    parts=True,
    finetune=TuningSettings(num_epochs=1, fraction=1),
)


def make_job(row: str, *, data: str = "data0", seed: int = 0, rate: float = 1e-3, **others: Any) -> Job:
    defaults = {"store": Path("store.zarr"), "fingerprint": "f", "objective": ObjectiveSettings(), "features": "encoder", "budget": BUDGET}
    return Job(row=row, data=data, seed=seed, learning_rate=rate, **({"finetuned": False} | defaults | others))


def make_outcome(job: Job, action: float, *, raw: float = 0.5, tuned: float | None = None, parts: float | None = None) -> Outcome:
    return Outcome(
        job=job,
        action_raw=raw,
        action=action,
        parts=None if parts is None else PartScore(num_train_tokens=9, num_test_tokens=9, all=parts, budgets={200: parts / 2}),
        held_out=HeldOutLoss(student=action / 2, constant=0.25, position=0.125),
        finetune=None
        if tuned is None
        else TuningScore(fraction=1, num_labelled=2, train_accuracy=1, video_accuracy=tuned, best_test_epoch=tuned, predictions=()),
        training_loss=1,
        seconds=1,
    )


ACTIONS = {
    "dense": [0.70, 0.75, 0.80, 0.74],
    "global": [0.60, 0.66, 0.62, 0.65],
    "shuffled": [0.68, 0.76, 0.75, 0.74],
    "untrained": [0.50, 0.49, 0.60, 0.41],
    "centred": [0.60, 0.65, 0.71, 0.68],
}
RUNS = [("data0", 0), ("data0", 1), ("data1", 0), ("data1", 1)]


def outcomes() -> list[Outcome]:
    """The runs of some rows come in another order than those of the reference."""
    found = []
    for row, actions in ACTIONS.items():
        runs = [make_outcome(make_job(row, data=data, seed=seed), action) for (data, seed), action in zip(RUNS, actions, strict=True)]
        found += runs if row == "dense" else runs[::-1]
    return found


def test_means_and_gains() -> None:
    table = summarise(outcomes(), reference="dense")
    assert list(table) == list(ACTIONS)
    for row, actions in ACTIONS.items():
        cell = table[row]["action std"]
        assert cell["mean"] == pytest.approx(sum(actions) / 4)
        assert cell["std"] == pytest.approx(stats.tstd(actions))
        assert table[row]["runs"] == 4
        assert table[row]["held out"] == pytest.approx({"student": sum(actions) / 8, "constant": 0.25, "position": 0.125})
    assert "gain" not in table["dense"]["action std"]
    assert table["global"]["action std"]["gain"] == pytest.approx(0.115)
    assert table["untrained"]["action raw"]["gain"] == 0


def test_p_is_that_of_a_test_paired_by_data_and_seed() -> None:
    table = summarise(outcomes(), reference="dense")
    for row in ("global", "shuffled", "untrained"):
        assert table[row]["action std"]["p"] == pytest.approx(stats.ttest_rel(ACTIONS["dense"], ACTIONS[row]).pvalue)
    assert table["global"]["action raw"]["p"] == 1  # no run differs


def test_holm_corrects_over_the_rows_of_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.01 x 4; 0.03 x 3; 0.02 x 2 would lie below the one before; 0.6 x 1."""
    values = {"global": 0.03, "shuffled": 0.6, "untrained": 0.01, "centred": 0.04}

    def fake(ours: list[float], theirs: list[float]) -> float:
        means = {row: sum(actions) for row, actions in ACTIONS.items()}
        return next((values[row] for row in values if means[row] == pytest.approx(sum(theirs))), 1.0)

    monkeypatch.setattr(tables, "paired_t", fake)
    table = summarise(outcomes(), reference="dense")
    holm = {row: table[row]["action std"].get("holm") for row in values}
    assert holm == pytest.approx({"untrained": 0.04, "global": 0.09, "centred": 0.09, "shuffled": 0.6})


def test_the_best_rate_of_every_row_is_shown() -> None:
    found = [
        make_outcome(make_job(row, seed=seed, rate=rate), action)
        for row, rates in {"dense": {1e-3: (0.5, 0.9), 3e-3: (0.6, 0.7)}, "global": {1e-3: (0.2, 0.3), 3e-3: (0.3, 0.4)}}.items()
        for rate, actions in rates.items()
        for seed, action in enumerate(actions)
    ]
    assert best_rates(found) == {"dense": 1e-3, "global": 3e-3}
    table = summarise(found, reference="dense")
    assert (table["dense"]["learning rate"], table["global"]["learning rate"]) == (1e-3, 3e-3)
    assert table["global"]["action std"]["mean"] == pytest.approx(0.35)
    assert table["global"]["action std"]["gain"] == pytest.approx(0.35)
    assert table["global"]["runs"] == 2


def test_columns_that_a_row_lacks_stay_empty() -> None:
    found = [
        *(make_outcome(make_job("dense", seed=seed), 0.7 + seed / 10, tuned=0.5 + seed / 10, parts=0.4) for seed in range(2)),
        *(make_outcome(make_job("global", seed=seed), 0.5, parts=0.3 - seed / 10) for seed in range(2)),
    ]
    table = summarise(found, reference="dense")
    assert "fine-tuned" not in table["global"]
    assert table["global"]["parts 200"]["gain"] == pytest.approx(0.075)
    lines = describe(table, reference="dense").splitlines()
    assert lines[0] == "| | action raw | action std | parts all | parts 200 | fine-tuned | loss: student / constant / position | rate |"
    widths = {line.count("|") for line in lines[:4]}
    assert widths == {9}
    assert lines[3].startswith("| global | 0.500 +- 0.000 | 0.500 +- 0.000 | 0.250 +- 0.071 |")
    assert "|  |" in lines[3]
    assert lines[-1].startswith("| global | +0.000 (1.000; 1.000) | +0.250 (")


def test_report_is_plain_data() -> None:
    found = report(outcomes(), reference="dense", seconds=90)
    assert json.loads(json.dumps(found)) == found
    assert found["minutes"] == 1.5
    assert found["budget"] == BUDGET.model_dump(mode="json")
    for run in found["runs"]:
        run["job"] |= {"store": "store.zarr", "budget": found["budget"]}
    assert [Outcome.model_validate(run) for run in found["runs"]] == outcomes()


def test_every_row_runs_on_its_store_with_every_seed_and_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "open_cache", lambda path: SimpleNamespace(manifest=SimpleNamespace(fingerprint=str(path))))
    rows = [
        Row(name="a", store="one", objective=None, learning_rates=(1.0, 2.0)),
        Row(name="b", store="two", objective=ObjectiveSettings(), finetuned=True),
    ]
    stores = {data: {name: Path(data) / name for name in ("one", "two")} for data in ("data0", "data1")}
    jobs = plan_jobs(rows, stores, 3, BUDGET)
    assert len(jobs) == len({comparison._path(job, Path()) for job in jobs}) == 3 * 2 * 3
    assert all(job.store == Path(job.data) / {"a": "one", "b": "two"}[job.row] for job in jobs)
    assert {job.learning_rate for job in jobs if job.row == "a"} == {1.0, 2.0}
    assert all(job.finetuned == (job.row == "b") for job in jobs)
    assert all(job.fingerprint == str(job.store) for job in jobs)


class InProcess(ThreadPoolExecutor):
    """A pool of the same interface that starts no process."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(1)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs that were run, each with an outcome that is made up."""
    done: list[Job] = []

    def fake(job: Job) -> Outcome:
        done.append(job)
        return make_outcome(job, 0.5 + job.seed / 10, parts=0.25)

    monkeypatch.setattr(comparison, "ProcessPoolExecutor", InProcess)
    monkeypatch.setattr(comparison, "run_job", fake)
    return done


def test_finished_runs_are_read_and_changed_ones_run_again(ran: list[Job], tmp_path: Path) -> None:
    jobs = [make_job("dense, raw", seed=seed) for seed in range(3)]
    first = run_jobs(jobs[:2], tmp_path / "runs")
    assert [outcome.job for outcome in first] == ran == jobs[:2]
    ran.clear()
    assert run_jobs(jobs, tmp_path / "runs")[:2] == first
    assert ran == jobs[2:]
    ran.clear()
    changed = [jobs[0].model_copy(update={"objective": ObjectiveSettings(variance_weight=0.5)}), *jobs[1:]]
    assert [outcome.job for outcome in run_jobs(changed, tmp_path / "runs")] == changed
    assert ran == changed[:1]
    ran.clear()
    rebuilt = [job.model_copy(update={"fingerprint": "g"}) for job in changed[:1]]
    assert [outcome.job for outcome in run_jobs(rebuilt, tmp_path / "runs")] == rebuilt
    assert ran == rebuilt
    run_jobs(changed, tmp_path / "runs")
    ran.clear()
    next((tmp_path / "runs").glob("*_1_*.json")).write_text('{"job": ')  # stopped while it was written
    assert [outcome.job for outcome in run_jobs(changed, tmp_path / "runs")] == changed
    assert ran == changed[1:2]


def test_a_run_trains_and_judges(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store.zarr", make_infos())
    job = make_job("dense", store=store, objective=ObjectiveSettings(conditioning="center"), finetuned=True)
    outcome = run_job(job)
    assert list(outcome.scores) == ["action raw", "action std", "parts all", "parts 1000", "parts 200", "fine-tuned"]
    assert all(0 <= score <= 1 for score in outcome.scores.values())
    assert outcome.held_out is not None
    assert outcome.held_out.position < 0.01  # features of this store follow the patch
    assert outcome.training_loss is not None
    assert outcome.finetune is not None
    assert outcome.finetune.num_labelled == 8
    assert Outcome.model_validate_json(outcome.model_dump_json()) == outcome
    assert pickle.loads(pickle.dumps((job, outcome))) == (job, outcome)
    again = run_job(job)
    assert again.model_copy(update={"seconds": outcome.seconds}) == outcome


@pytest.mark.parametrize(("objective", "trained"), [(None, False), (ObjectiveSettings(name="global"), True)])
def test_runs_without_a_dense_student_have_no_held_out_loss(tmp_path: Path, objective: ObjectiveSettings | None, trained: bool) -> None:
    store = write_store(tmp_path / "store.zarr", make_infos())
    budget = BUDGET.model_copy(update={"parts": False})
    outcome = run_job(make_job("row", store=store, objective=objective, budget=budget))
    assert (outcome.training_loss is not None) == trained
    assert outcome.held_out is None
    assert list(outcome.scores) == ["action raw", "action std"]


def test_targets_are_judged_without_an_encoder(tmp_path: Path) -> None:
    """In this store a target tells the height of its point, and the height tells the part."""
    store = write_store(tmp_path / "store.zarr", make_infos())
    outcome = run_job(make_job("targets", store=store, objective=None, features="targets"))
    assert list(outcome.scores) == ["action raw", "action std", "parts all", "parts 1000", "parts 200"]
    assert (outcome.held_out, outcome.finetune, outcome.training_loss) == (None, None, None)
    assert outcome.parts is not None
    assert outcome.parts.all > 0.6
    all_tokens = 8 * BUDGET.clips.num_frames * 4
    assert outcome.parts.num_train_tokens < all_tokens  # only those that have a target


def test_a_store_that_cannot_be_used_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run_job(make_job("dense", store=tmp_path / "none.zarr"))
    assert stop.value.code == 2
    assert "there is no store" in capsys.readouterr().err
