"""Where the numbers of steps go, beside the run's own log."""

import csv
import itertools
import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cross4d_cache.errors import OutputError, SettingsError
from cross4d_train.run import RunFolder
from tests.cross4d_train.test_loop import make_training


class Wandb(ModuleType):
    """Weights & Biases as far as we use it."""

    Error = type("Error", (Exception,), {})

    def __init__(self):
        super().__init__("wandb")
        self.begun, self.steps, self.finished, self.refuses = [], [], 0, False

    def init(self, **options):
        if self.refuses:
            raise self.Error("api_key not configured (no-tty). call wandb.login\nand more")
        self.begun.append(options)
        return SimpleNamespace(id=options["id"] or "run7", define_metric=lambda *_, **__: None, log=self.steps.append, finish=self.finish)

    def finish(self):
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch):
    fake = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def train(store, path, logger, *, steps=None):
    """Steps of a run, all of them by default; what the folder logs of them."""
    folder = RunFolder(path, logger=logger)
    running = folder.record(make_training(store, checkpoint=folder.load()))
    list(itertools.islice(running, steps))
    running.close()
    return [json.loads(line) for line in folder.log_path.read_text().splitlines()]


def test_csv_has_a_line_a_step_also_after_a_resume(store, tmp_path):
    """Five of nine steps, the last two of which no checkpoint has."""
    assert len(train(store, tmp_path / "run", "csv", steps=5)) == 5
    logged = train(store, tmp_path / "run", "csv")
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["step", "epoch", "loss", "learning_rate", "clips_per_second", "waiting", *logged[0]["scalars"]]
    assert [(int(row["step"]), float(row["loss"]), float(row["cosine"])) for row in rows] == [
        (line["step"], line["loss"], line["scalars"]["cosine"]) for line in logged
    ]
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_tensorboard_is_the_default_and_hides_steps_that_are_repeated(store, tmp_path, monkeypatch):
    """Whatever the surroundings say of other processes."""
    monkeypatch.setenv("SLURM_PROCID", "3")
    first = RunFolder(tmp_path / "run")
    running = first.record(make_training(store))
    list(itertools.islice(running, 5))
    running.close()
    logged = train(store, tmp_path / "run", "tensorboard")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(9))
    assert [event.value for event in events.Scalars("cosine")] == pytest.approx([line["scalars"]["cosine"] for line in logged])


def test_none_writes_the_log_alone(store, tmp_path):
    train(store, tmp_path / "run", "none")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"checkpoint.safetensors", "log.jsonl", "settings.json"}


def test_wandb_goes_on_with_its_run(store, tmp_path, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "bodies")
    train(store, tmp_path / "run", "wandb", steps=5)
    logged = train(store, tmp_path / "run", "wandb")
    assert [(begun["id"], begun["resume"], begun["project"]) for begun in wandb.begun] == [
        (None, None, "bodies"),
        ("run7", "allow", "bodies"),
    ]
    assert wandb.begun[0]["config"]["clips.num_frames"] == 3
    assert [step["step"] for step in wandb.steps] == [0, 1, 2, 3, 4, 3, 4, 5, 6, 7, 8]
    assert wandb.steps[-1]["cosine"] == logged[-1]["scalars"]["cosine"]
    assert wandb.finished == 2


def test_wandb_that_does_not_begin_is_one_message(store, tmp_path, wandb):
    wandb.refuses = True
    with pytest.raises(OutputError, match=r"(?s)does not begin: api_key not configured.*expected: .*next: run `wandb login`") as caught:
        train(store, tmp_path / "run", "wandb")
    assert "and more" not in str(caught.value)


def test_loggers_that_cannot_be_are_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SettingsError, match=r"(?s)wandb, which logs .* cannot be imported.*next: pip install wandb"):
        RunFolder(tmp_path / "run", logger="wandb")
    with pytest.raises(SettingsError, match=r"(?s)unknown logger 'mlflow'.*tensorboard, csv, wandb, none"):
        RunFolder(tmp_path / "run", logger="mlflow")
