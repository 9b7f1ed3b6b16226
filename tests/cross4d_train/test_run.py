import itertools
import json

import pytest

from cross4d_cache.errors import CheckpointError, OutputError
from cross4d_train.run import RunFolder
from tests.cross4d_train.test_loop import make_settings, make_training


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["thesis.tex", "log.jsonl", "settings.json"])
@pytest.mark.parametrize("text", [b'{"a": 1}\n', b"\xff\x00"])
def test_a_folder_of_something_else_is_left_alone(tmp_path, name, text):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(OutputError, match=rf"(?s)no run: {name}.*expected: .*next: "):
        RunFolder(tmp_path)
    assert content(tmp_path) == {name: text}


def test_a_run_without_a_checkpoint_is_still_a_run(store, tmp_path):
    assert RunFolder(tmp_path / "run").settings(None) is None
    begun = RunFolder(tmp_path / "run").record(make_training(store))
    next(begun)
    begun.close()
    folder = RunFolder(tmp_path / "run")
    assert folder.load() is None
    assert folder.settings(None) == make_settings()
    before = content(tmp_path / "run" / "tensorboard") | {"settings": folder.settings_path.read_bytes()}
    with pytest.raises(CheckpointError, match=r"(?s)begun with other settings:\n    training.seed: 7 here, 0 there\n  expected: .*next: "):
        next(folder.record(make_training(store, make_settings(seed=7))))
    assert content(tmp_path / "run" / "tensorboard") | {"settings": folder.settings_path.read_bytes()} == before


def test_two_runs_in_one_folder_are_refused(store, tmp_path):
    first = RunFolder(tmp_path / "run").record(make_training(store))
    next(first)
    log = (tmp_path / "run" / "log.jsonl").read_bytes()
    with pytest.raises(OutputError, match=r"(?s)another process trains in .*expected: .*next: "):
        next(RunFolder(tmp_path / "run").record(make_training(store)))
    assert (tmp_path / "run" / "log.jsonl").read_bytes() == log
    first.close()
    assert list(RunFolder(tmp_path / "run").record(make_training(store)))


def test_empty_and_missing_folders_are_taken_and_not_yet_written_to(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".settings.json.0123456789abcdef.partial").touch()  # a kill while the very first file was written
    for name in ("empty", "missing/run"):
        RunFolder(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_lines_of_a_log_that_cannot_be_read_are_dropped(store, tmp_path):
    folder = RunFolder(tmp_path)
    killed = folder.record(make_training(store))
    list(itertools.islice(killed, 5))
    killed.close()
    whole = folder.log_path.read_bytes().splitlines(keepends=True)
    folder.log_path.write_bytes(b"".join([b"null\n", *whole, b'{"a": 1}\n', b"\xff\x00\n", b'{"step": 5, "lo']))
    left = tmp_path / ".log.jsonl.0123456789abcdef.partial"
    left.touch()
    again = RunFolder(tmp_path)
    training = make_training(store, checkpoint=again.load())
    list(again.record(training))
    logged = [json.loads(line) for line in again.log_path.read_text().splitlines()]
    assert [line["step"] for line in logged] == list(range(9))
    assert not left.exists()
    again.log_path.write_bytes(b"\xff\x00\n" + again.log_path.read_bytes())  # only the last epoch is read
    assert again.result(training).scalars["cosine"] == pytest.approx(sum(line["scalars"]["cosine"] for line in logged[-3:]) / 3)
    assert again.result(training).outcome.first_loss is None  # the line before belongs to no step
    again.log_path.write_bytes(b"".join(whole[:3]) + b"null\n" * 3 + b"".join(again.log_path.read_bytes().splitlines(keepends=True)[-3:]))
    assert again.result(training).outcome.first_loss == pytest.approx(sum(line["loss"] for line in logged[:3]) / 3)
    for damaged in (b"", b"null\n" * 9):
        again.log_path.write_bytes(damaged)
        with pytest.raises(OutputError, match=r"(?s)lacks steps of the last epoch.*expected: 3 lines.*next: "):
            again.result(training)


def test_a_loader_that_fails_is_no_matter_of_space(store, tmp_path, monkeypatch):
    training = make_training(store)

    def fail(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(training, "_train_step", fail)
    with pytest.raises(OSError, match="Too many open files"):
        list(RunFolder(tmp_path / "run").record(training))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("target", ["cross4d_train.run.write_durably", "cross4d_train.metric_log.SummaryWriter.add_scalar"])
def test_a_full_disk_is_one_message(store, tmp_path, monkeypatch, target):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(target, full)
    with pytest.raises(OutputError, match=r"(?s)No space left.*expected: .*next: free some space"):
        list(RunFolder(tmp_path).record(make_training(store)))
