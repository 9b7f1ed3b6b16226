"""Rows on equal terms: which students they train, what is asked of them, and what their numbers are."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cross4d_train.clips import ClipSettings
from cross4d_train.evaluation.evaluate import EvaluationRequest
from cross4d_train.evaluation.finetune import TuningSettings
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.settings import EncoderSettings
from pipelines import objectives, semantics
from pipelines.experiment import pool
from pipelines.experiment.comparison import FINE_TUNED, LOSSES, PARTS, RAW, STANDARDISED, Budget, Comparison, Row, as_record
from pipelines.experiment.measures import HeldOut, TargetScores, TokenParts, held_out, target_scores, token_parts
from pipelines.experiment.plan import runs_of, stores_of, trained
from pipelines.experiment.report import markdown
from pipelines.experiment.work import EvaluationRun, Store
from tests.cross4d_train.conftest import make_infos, write_store

BUDGET = Budget(
    encoder=EncoderSettings(size="tiny"),
    clips=ClipSettings(num_frames=3, num_points=48, stride=1),
    num_epochs=2,
    clips_per_sequence=1,
    protocol="cross-subject",
    num_windows=2,
    parts=True,
    finetune=TuningSettings(num_epochs=1, fraction=1),
)
DENSE = Row(name="dense", store="one", objective=ObjectiveSettings(conditioning="center"), finetuned=True)
UNTRAINED = Row(name="untrained", store="one", objective=None, learning_rates=(1.0,))
GLOBAL = Row(name="global, centred", store="two", objective=ObjectiveSettings(name="global"), learning_rates=(1e-3, 3e-3))
TARGETS = Row(name="targets", store="one", objective=None, targets=True)
ROWS = (UNTRAINED, GLOBAL, DENSE, TARGETS)


def comparison(folder: Path, rows: tuple[Row, ...] = ROWS, data: tuple[str, ...] = ("data0",)) -> Comparison:
    stores = {name: {store: Store(path=folder / name / f"{store}.zarr") for store in ("one", "two")} for name in data}
    return Comparison(rows, stores, BUDGET, reference="dense", root=folder)


class InProcess(ThreadPoolExecutor):
    """A pool of the same interface that starts no process."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(1)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A comparison whose rows have been run with one seed, on two equal stores."""
    folder = tmp_path_factory.mktemp("comparison")
    made = comparison(folder)
    for store in ("one", "two"):
        write_store(folder / "data0" / f"{store}.zarr", make_infos())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "ProcessPoolExecutor", InProcess)
        made.finished(1, made.best_rates(1))
    return made


def test_every_row_is_trained_on_its_store_of_each_data_seed_with_every_seed_and_rate(tmp_path: Path) -> None:
    made = comparison(tmp_path, data=("data0", "data1"))
    cells = [cell for row in ROWS for rate in row.learning_rates for cell in made._cells(row, rate).values()]
    students = trained(run.student for run in runs_of(cells, 3))
    assert len({student.folder for student in students}) == 3 * 2 * (2 + 1)
    for student in students:
        assert student.store is not None
        assert student.settings is not None
        assert student.store.path.parent.name in student.name
        assert student.store.name == {"dense": "one", "global": "two"}[student.settings.objective.name]
        assert student.settings.training.seed == student.seed
        assert f"{student.settings.training.learning_rate:g}" in student.name


def test_columns_are_those_that_some_row_has(tmp_path: Path) -> None:
    made = comparison(tmp_path)
    table = made.table({row.name: row.learning_rates[0] for row in ROWS})
    assert table.columns == (RAW, STANDARDISED, *PARTS, FINE_TUNED, *LOSSES)
    assert {name: set(cells) for name, cells in table.rows.items()} == {
        "untrained": {RAW, STANDARDISED, *PARTS},
        "global, centred": {RAW, STANDARDISED, *PARTS},
        "dense": set(table.columns),
        "targets": {RAW, STANDARDISED, *PARTS},
    }
    assert table.note == "Learning rates: global, centred 0.001; dense 0.001."
    assert {ours[1] for ours, _ in table.comparisons()}.isdisjoint(LOSSES)


def test_the_best_rate_is_chosen_by_standardised_accuracy(done: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the mean over all seeds decides."""
    accuracies = {1e-3: (0.5, 0.9), 3e-3: (0.6, 0.7)}

    def told(run: EvaluationRun) -> dict[str, Any]:
        rate = 1e-3 if run.student.settings is None else run.student.settings.training.learning_rate
        score = {"video_accuracy": accuracies[rate][run.student.seed], "predictions": [{"id": "v", "action": 1, "predicted": 1}]}
        return {"raw": score, "standardised": score}

    monkeypatch.setattr(EvaluationRun, "result", told)
    monkeypatch.setattr(Comparison, "_do", lambda *_: None)
    assert done.best_rates(2)["global, centred"] == 1e-3
    assert done.best_rates(1)["global, centred"] == 3e-3


def test_scores_are_shares_and_losses_those_of_dense_students(done: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InProcess, "submit", None)  # nothing is left to do
    monkeypatch.setattr(pool, "ProcessPoolExecutor", InProcess)
    finished = done.finished(1, {row.name: row.learning_rates[0] for row in ROWS})
    for (row, column), found in finished.found.items():
        assert len(found.spread.values) == 1
        assert column in LOSSES or all(0 <= value <= 1 for value in found.spread.values), (row, column)
    assert finished.found["dense", "loss: position"].spread.mean < 0.01  # features of this store follow the patch
    assert finished.found["targets", "parts all"].spread.mean > 0.6  # a target tells the height of its point, and that the part
    text = markdown(finished)
    assert "| untrained |" in text
    assert "dense minus untrained" in text
    assert as_record(done, finished, 90.0)["minutes"] == 1.5


def request(done: Comparison, row: Row, kind: str, options: dict[str, object]) -> EvaluationRequest:
    return done._runs(row, row.learning_rates[0], kind, options)[0].with_seed(0).request


def test_measures_are_those_of_the_library_and_repeat(done: Comparison) -> None:
    parts = token_parts(request(done, DENSE, "parts", {}))
    assert token_parts(request(done, DENSE, "parts", {})) == parts
    assert set(parts.parts.budgets) == {1000, 200}
    assert TokenParts.model_validate_json(parts.model_dump_json()) == parts
    loss = held_out(request(done, DENSE, "held-out", {}))
    assert HeldOut.model_validate_json(loss.model_dump_json()) == loss
    assert loss.loss.position < loss.loss.constant


def test_targets_are_judged_without_an_encoder(done: Comparison) -> None:
    scores = target_scores(request(done, TARGETS, "targets", {"num_windows": 2}))
    assert TargetScores.model_validate_json(scores.model_dump_json()) == scores
    all_tokens = 8 * BUDGET.clips.num_frames * 4
    assert scores.parts.num_train_tokens < all_tokens  # only those that have a target


def test_budgets_are_described() -> None:
    lines = BUDGET.describe().splitlines()
    assert lines[0].startswith("point4d tiny, clips of 3 frames (every 1.) x 48 points, 2 epochs of 1 clips a sequence")
    assert lines[2] == "fine-tuning: AdamW, rate 0.001, 1 epochs, 100% of the labels, at least one of each action"


@pytest.mark.parametrize("recipe", [semantics, objectives])
@pytest.mark.parametrize("scale", ["small", "demo"])
def test_recipes_lay_out_their_tables_and_derive_the_control_of_shuffled_points(recipe: ModuleType, scale: str, tmp_path: Path) -> None:
    stores = semantics.stores_in(tmp_path, recipe.STORES, recipe.SCALES[scale])
    common = semantics.budget(recipe.SCALES[scale], tuned=True)
    made = Comparison(recipe.ROWS, stores, common, reference=recipe.REFERENCE, root=tmp_path)
    table = made.table({row.name: row.learning_rates[-1] for row in recipe.ROWS})
    assert set(table.rows) == {row.name for row in recipe.ROWS}
    runs = runs_of(table.cells(), 1)
    built = stores_of([run.store for run in runs], trained(run.student for run in runs))
    assert len(built) == len(stores) * len(recipe.STORES | {"shuffled": None})
    derived = [store for store in built if store.of is not None]
    assert [store.path.name for store in derived] == ["shuffled.zarr"] * len(stores)
    assert all(built.index(store.of) < built.index(store) for store in derived if store.of is not None)
    assert len({store.request.dataset.options["seed"] for store in built}) == len(stores)
