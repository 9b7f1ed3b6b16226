"""Runs that were stopped, killed, set back, lengthened or begun from others: what they leave is what one left that never stopped."""

import hashlib
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cross4d_cache.errors import CheckpointError, SettingsError
from cross4d_train.checkpoint import load_checkpoint
from cross4d_train.first_weights import identify_weights
from cross4d_train.loop import Pretraining
from cross4d_train.run import RunFolder
from cross4d_train.saving import Saving
from cross4d_train.settings import EarlierLength, RunSettings
from cross4d_train.signals import stopping
from tests.cross4d_train.test_loop import make_settings, make_training
from tests.cross4d_train.test_train_cli import run

EPOCH = 3
"""Steps of an epoch: eight videos, three clips a step."""

COMMAND = ("--size", "tiny", "--frames", 3, "--points", 48, "--batch-size", 3, "--lr", 3e-3, "--device", "cpu")
"""The command of `make_settings`, but for its side and its epochs."""


def left(folder: Path) -> tuple[bytes, list[dict[str, object]], bytes]:
    """What must not depend on interruptions: the checkpoint's bytes, the log without times, the settings."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    log = [{name: value for name, value in line.items() if name not in ("clips_per_second", "waiting")} for line in lines]
    return (folder / "checkpoint.safetensors").read_bytes(), log, (folder / "settings.json").read_bytes()


def command(store: Path, out: Path, *options: object, epochs: object = 2) -> tuple[object, ...]:
    return ("pretrain", "--cache", store, "--out", out, *COMMAND, *(() if epochs is None else ("--epochs", epochs)), *options)


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    """Two epochs that never stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    result = run(*command(store, out))
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def at_step(monkeypatch):
    """Has something happen in the middle of a step."""

    def arrange(step, happen):
        train = Pretraining._train_step

        def patched(training, batch, rate):
            if training.step == step:
                happen()
            return train(training, batch, rate)

        monkeypatch.setattr(Pretraining, "_train_step", patched)

    return arrange


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_finishes_the_step_saves_and_says_so(store, tmp_path, whole, at_step, number):
    at_step(EPOCH + 1, lambda: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    stopped = run(*command(store, tmp_path / "run"))
    assert stopped.exit_code == 75, stopped.output
    said = f"stopped by {number.name}: step 5 of 6 is saved; the same command resumes there"
    assert stopped.stderr.splitlines()[-1] == said
    assert stopped.stdout == ""
    assert signal.getsignal(number) == before
    assert load_checkpoint(tmp_path / "run" / "checkpoint.safetensors").record.step == EPOCH + 2
    again = run(*command(store, tmp_path / "run"))  # the signal came before the step that is next
    assert again.exit_code == 0, again.output
    assert "resuming at step 5" in again.stderr
    assert left(tmp_path / "run") == left(whole)


def test_a_signal_in_the_last_step_changes_nothing(store, tmp_path, whole, at_step):
    at_step(2 * EPOCH - 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert run(*command(store, tmp_path / "run")).exit_code == 0
    assert left(tmp_path / "run") == left(whole)


def test_signals_are_counted_only_in_the_meantime():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    asked = []
    with stopping(lambda: asked.append(True)) as names:
        assert (names, asked) == ([], [])
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)  # as SLURM does when the warning was too short
    assert (names, asked) == (["SIGUSR1", "SIGTERM"], [True, True])
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before


def test_help_names_the_exit_code():
    assert "exit code 75" in " ".join(run("pretrain", "--help").stdout.replace("│", " ").split())


def test_all_processes_of_a_run_stop_after_the_same_step(store, monkeypatch):
    """Two of one run, of which one is told."""
    training = make_training(store)
    reduce = training.fabric.all_reduce

    def with_another(tensor, reduce_op):
        other = tensor.clone()
        other[-1] = float(training.step == 4)
        return reduce((tensor + other) / 2, reduce_op=reduce_op)

    monkeypatch.setattr(training.fabric, "all_reduce", with_another)
    assert [record.step for record in training.steps()] == list(range(5))
    assert training.stopped


@pytest.fixture(scope="module")
def killed(store, tmp_path_factory):
    """A run that was really killed, in the last step before its first checkpoint."""
    out = tmp_path_factory.mktemp("killed") / "run"
    code = f"""
import os, signal, sys
from cross4d_train.cli.app import main
from cross4d_train.loop import Pretraining
train = Pretraining._train_step
def patched(training, batch, rate):
    if training.step == {EPOCH - 1}:
        os.kill(os.getpid(), signal.SIGKILL)
    return train(training, batch, rate)
Pretraining._train_step = patched
sys.argv = ["cross4d-train", *{list(map(str, command(store, out)))}]
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not (out / "checkpoint.safetensors").exists()
    return out


def test_a_run_without_a_checkpoint_keeps_its_settings(store, killed):
    before = (killed / "settings.json").read_bytes()
    for other in (command(store, killed, "--seed", 7), command(store, killed, "--resume", "--seed", 7, epochs=None)):
        refused = run(*other)
        assert refused.exit_code == 2
        assert "training.seed: 7 here, 0 there" in refused.stderr
        assert (killed / "settings.json").read_bytes() == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_without_a_checkpoint_is_trained_with_its_own_settings(store, tmp_path, whole, killed, resume):
    shutil.copytree(killed, tmp_path / "run")
    alone = ("pretrain", "--cache", store, "--out", tmp_path / "run", "--resume")
    finished = run(*(alone if resume else command(store, tmp_path / "run")))
    assert finished.exit_code == 0, finished.output
    assert "nothing was saved there yet; starting at step 0" in finished.stderr
    assert left(tmp_path / "run") == left(whole)


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (("--lr", 1e-3), "training.learning_rate: 0.001 here, 0.003 there"),
        (("--size", "mini"), "encoder.size: mini here, tiny there"),
        (("--objective", "ijepa"), "objective.name: ijepa here, dense there"),
        (("--split", "all"), "training.side: all here, train+unsplit there"),
        (("--epochs", 1), "training.num_epochs: 1 here, 2 there"),
    ],
)
def test_other_settings_are_refused_and_named(store, whole, options, difference):
    before = left(whole)
    refused = run(*command(store, whole, *options))
    assert refused.exit_code == 2
    [line] = [line for line in refused.stderr.splitlines() if line.startswith("    ")]
    assert line == f"    {difference}"
    assert f"error: the run in {whole} was begun with other settings:" in refused.stderr
    assert "  expected: " in refused.stderr
    assert "choose another --out" in refused.stderr
    assert left(whole) == before


def test_an_option_left_out_is_a_setting_too(store, whole):
    refused = run("pretrain", "--cache", store, "--out", whole, *COMMAND[:-4], "--epochs", 2, "--device", "cpu")
    assert refused.exit_code == 2
    assert "training.learning_rate: 0.0005 here, 0.003 there" in refused.stderr
    assert run("pretrain", "--cache", store, "--out", whole, "--resume").exit_code == 0


@pytest.mark.parametrize(("name", "said"), [("missing", "does not exist"), ("empty", "has no run in it")])
def test_there_must_be_something_to_resume(store, tmp_path, name, said):
    (tmp_path / "empty").mkdir()
    refused = run("pretrain", "--cache", store, "--out", tmp_path / name, "--resume")
    assert refused.exit_code == 2
    assert f"error: {tmp_path / name} {said}" in refused.stderr
    assert "without --resume" in refused.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_a_rule_of_the_release_that_began_a_run_is_no_other_setting(store, tmp_path):
    """Release 0.1 did not standardise mean tokens."""
    settings = make_settings(side="train+unsplit", num_epochs=1).changed({"objective.name": "global"})
    list(RunFolder(tmp_path).record(make_training(store, settings)))
    again = run(*command(store, tmp_path, "--objective", "global", epochs=1), "--json")
    assert again.exit_code == 0, again.output
    assert "standardised" not in json.loads(again.stdout)["settings"]["objective"]


def test_settings_that_do_not_belong_to_the_checkpoint_are_told_and_damaged_ones_made_again(store, tmp_path, whole):
    shutil.copytree(whole, tmp_path / "run")
    written = tmp_path / "run" / "settings.json"
    was = written.read_bytes()
    written.write_bytes(was.replace(b'"seed": 0', b'"seed": 1'))
    refused = run("pretrain", "--cache", store, "--out", tmp_path / "run", "--resume")
    assert refused.exit_code == 2
    assert f"{written} and {tmp_path / 'run' / 'checkpoint.safetensors'} differ:\n    training.seed: 1 here, 0 there" in refused.stderr
    written.write_bytes(was[:20])
    assert run("pretrain", "--cache", store, "--out", tmp_path / "run", "--resume", "--epochs", 3).exit_code == 0
    assert RunSettings.from_json(written.read_bytes()).training.num_epochs == 3


@pytest.mark.parametrize("stop", [1, 4, 5])
def test_what_was_saved_between_epochs_is_resumed_to_the_same_bytes(store, tmp_path, stop):
    list(RunFolder(tmp_path / "whole").record(make_training(store)))
    folder = RunFolder(tmp_path / "run")
    killed = folder.record(make_training(store), save_every=0.0)
    list(itertools.islice(killed, stop))
    killed.close()
    checkpoint = RunFolder(tmp_path / "run").load()
    assert checkpoint is not None
    assert checkpoint.record.step == stop
    list(folder.record(make_training(store, checkpoint=checkpoint)))
    assert left(tmp_path / "run") == left(tmp_path / "whole")
    assert [line["step"] for line in left(tmp_path / "run")[1]] == list(range(9))


def test_minutes_between_checkpoints(store, tmp_path, monkeypatch):
    """A step of 20 s: every minute is after the third, and an epoch's end counts as well."""
    now, saved = [0.0], []
    monkeypatch.setattr("cross4d_train.saving.time.monotonic", lambda: now[0])
    save = Saving.save
    monkeypatch.setattr(Saving, "save", lambda self, checkpoint: (saved.append(checkpoint.record.step), save(self, checkpoint)))
    training = make_training(store, make_settings(batch_size=1, num_epochs=1))
    for _ in RunFolder(tmp_path).record(training, save_every=1.0):
        now[0] += 20
    assert saved == [4, 7, 8]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.safetensors"))


@pytest.mark.parametrize("links", [True, False])
def test_the_last_checkpoints_are_kept_under_their_steps(store, tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", lambda *_: (_ for _ in ()).throw(OSError(95, "Operation not supported")))
    folder = RunFolder(tmp_path)
    for record in folder.record(make_training(store), save_every=0.0, keep=2):
        there = [step for step in (record.step - 1, record.step) if step > 0]
        assert names(tmp_path) == sorted(["checkpoint.safetensors", *(f"checkpoint_step{step}.safetensors" for step in there)])
        for step in there:
            assert load_checkpoint(tmp_path / f"checkpoint_step{step}.safetensors").record.step == step
    whole = left(tmp_path)
    shutil.copy(tmp_path / "checkpoint_step7.safetensors", tmp_path / "checkpoint.safetensors")
    list(RunFolder(tmp_path).record(make_training(store, checkpoint=folder.load())))  # without `keep` none is touched
    assert names(tmp_path) == ["checkpoint.safetensors", "checkpoint_step7.safetensors", "checkpoint_step8.safetensors"]
    assert left(tmp_path) == whole


def test_a_checkpoint_that_was_kept_is_evaluated_as_any(store, tmp_path):
    assert run(*command(store, tmp_path / "run", "--keep", 1)).exit_code == 0
    assert names(tmp_path / "run") == ["checkpoint.safetensors", "checkpoint_step3.safetensors"]
    kept = tmp_path / "run" / "checkpoint_step3.safetensors"
    probed = run("probe", "--checkpoint", kept, "--cache", store, "--epochs", 1, "--windows", 1, "--json")
    assert json.loads(probed.stdout)["step"] == 3


def test_a_run_is_lengthened_and_recorded(store, tmp_path, whole):
    """Two epochs, then a third: the rate is that of two epochs for six steps, and of three from there on."""
    shutil.copytree(whole, tmp_path / "run")
    longer = run(*command(store, tmp_path / "run", epochs=3), "--json")
    assert longer.exit_code == 0, longer.output
    assert "lengthened from 2 to 3 epochs" in longer.stderr
    training = json.loads(longer.stdout)["settings"]["training"]
    assert (training["num_epochs"], training["earlier_lengths"]) == (3, [{"num_epochs": 2, "until_step": 6}])
    assert training["requires"] == ["earlier_lengths"]
    checkpoint, log, settings = left(tmp_path / "run")
    rates = [line["learning_rate"] for line in log]
    expected = [
        3e-3,
        *(
            3e-3 * (1 + math.cos(math.pi * (step - 1) / (total - 1))) / 2
            for step, total in zip(range(1, 9), [6] * 5 + [9] * 3, strict=True)
        ),
    ]
    assert rates == pytest.approx(expected)
    again = RunSettings.from_json(settings)
    list(RunFolder(tmp_path / "anew").record(make_training(store, again)))  # the record gives the same curve without a stop
    assert left(tmp_path / "anew") == (checkpoint, log, settings)
    for arguments in (command(store, tmp_path / "run", epochs=3), ("pretrain", "--cache", store, "--out", tmp_path / "run", "--resume")):
        assert run(*arguments).exit_code == 0
    shorter = run(*command(store, tmp_path / "run"))
    assert shorter.exit_code == 2
    assert "    training.num_epochs: 2 here, 3 there" in shorter.stderr
    assert left(tmp_path / "run") == (checkpoint, log, settings)


def test_a_run_that_was_killed_after_it_was_lengthened_is_still_lengthened(store, tmp_path):
    settings = make_settings(num_epochs=1).changed({"objective.name": "ijepa"})  # whose momentum follows the length too
    folder = RunFolder(tmp_path / "run")
    list(folder.record(make_training(store, settings)))
    killed = folder.record(make_training(store, settings.lengthened(2, EPOCH), checkpoint=folder.load()))
    next(killed)
    killed.close()
    checkpoint = folder.load()
    assert checkpoint is not None
    assert checkpoint.record.settings.training.num_epochs == 1
    found = folder.settings(checkpoint)
    assert found is not None
    assert found.training.num_epochs == 2
    with pytest.raises(CheckpointError, match=r"training.num_epochs: 1 here, 2 there"):
        next(folder.record(make_training(store, settings, checkpoint=checkpoint)))
    list(folder.record(make_training(store, found, checkpoint=checkpoint)))
    list(RunFolder(tmp_path / "anew").record(make_training(store, found)))
    assert left(tmp_path / "run") == left(tmp_path / "anew")


def test_lengths_of_a_run_that_was_lengthened_twice():
    """Ten epochs to step 30, twenty to step 50, then forty."""
    run = make_settings(num_epochs=10).lengthened(20, 30).lengthened(40, 50)
    first, second = EarlierLength(num_epochs=10, until_step=30), EarlierLength(num_epochs=20, until_step=50)
    assert (run.training.num_epochs, run.training.earlier_lengths) == (40, (first, second))
    assert [run.training.length_at(step) for step in (0, 29, 30, 49, 50, 99)] == [10, 10, 20, 20, 40, 40]
    lengths = [(run.training.as_of(step).num_epochs, run.training.as_of(step).earlier_lengths) for step in (0, 30, 31, 50, 51)]
    assert lengths == [(10, ()), (10, ()), (20, (first,)), (20, (first,)), (40, (first, second))]
    assert run.lengthened(50, 50).training.earlier_lengths == (first, second)
    assert run.lengthened(50, 20).training.earlier_lengths == (EarlierLength(num_epochs=10, until_step=20),)  # it was set back
    begun = make_settings(num_epochs=10)
    assert run.differences(begun, 30) == []
    assert run.differences(begun, 31) != []
    assert begun.differences(run, 30) == ["training.num_epochs: 10 here, 40 there"]
    assert RunSettings.from_json(run.model_dump_json()) == run


def test_a_run_begins_with_the_encoder_of_another(store, tmp_path, whole):
    checkpoint = whole / "checkpoint.safetensors"
    arguments = ("pretrain", "--cache", store, "--out", tmp_path / "run", *COMMAND[2:], "--epochs", 1, "--seed", 5, "--split", "train")
    begun = run(*arguments, "--init", checkpoint, "--json")  # its encoder and size are the checkpoint's
    assert begun.exit_code == 0, begun.output
    assert "beginning with the encoder that 6 steps trained on fake" in begun.stderr
    settings = json.loads(begun.stdout)["settings"]
    assert settings["encoder"] == {"name": "point4d", "size": "tiny"}
    assert settings["requires"] == ["initial"]
    assert settings["initial"]["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert settings["initial"]["settings"] == json.loads((whole / "settings.json").read_text())
    assert run(*arguments, "--init", checkpoint).exit_code == 0
    assert run("pretrain", "--cache", store, "--out", tmp_path / "run", "--resume").exit_code == 0
    shutil.copy(tmp_path / "run" / "checkpoint.safetensors", tmp_path / "other.safetensors")
    for other, found in (((), "    initial.sha256: not set here"), (("--init", tmp_path / "other.safetensors"), "    initial.sha256: ")):
        refused = run(*arguments, "--size", "tiny", *other)
        assert refused.exit_code == 2
        assert found in refused.stderr
        assert sum(line.startswith("    ") for line in refused.stderr.splitlines()) == 1
    wrong = run(*arguments, "--init", checkpoint, "--encoder", "pstnet", "--out", tmp_path / "wrong")
    assert wrong.exit_code == 2
    assert "the encoder point4d tiny, and this run is to train pstnet tiny" in wrong.stderr
    assert not (tmp_path / "wrong").exists()


def test_first_weights_are_those_of_the_checkpoint_and_must_be_named_until_something_is_saved(store, tmp_path, whole):
    file = whole / "checkpoint.safetensors"
    settings = make_settings().model_copy(update={"initial": identify_weights(file)})
    training = make_training(store, settings, initial=file)
    given = load_checkpoint(file).part("encoder")
    assert all(torch.equal(value, given[name]) for name, value in training.encoder.state_dict().items())
    begun = RunFolder(tmp_path / "run").record(training)
    next(begun)
    begun.close()
    refused = run("pretrain", "--cache", store, "--out", tmp_path / "run", "--resume")
    assert refused.exit_code == 2
    assert f"sha256 {settings.initial.sha256}" in refused.stderr
    resumed = run("pretrain", "--cache", store, "--out", tmp_path / "run", "--resume", "--init", file)
    assert resumed.exit_code == 0, resumed.output
    shutil.copy(tmp_path / "run" / "checkpoint.safetensors", tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="name its file with `initial`"):
        make_training(store, settings, initial=tmp_path / "other.safetensors")
    with pytest.raises(SettingsError, match="point4d tiny, and this run is to train point4d mini"):
        make_training(store, settings.changed({"encoder.size": "mini"}), initial=file)


def test_what_an_ancestor_saw_has_been_seen(store, tmp_path):
    first = run(*command(store, tmp_path / "first", "--split", "all", epochs=1))
    assert first.exit_code == 0, first.output
    second = run(*command(store, tmp_path / "second", "--split", "train", "--init", tmp_path / "first/checkpoint.safetensors", epochs=1))
    assert second.exit_code == 0, second.output
    probed = run(
        "probe", "--checkpoint", tmp_path / "second/checkpoint.safetensors", "--cache", store, "--epochs", 1, "--windows", 1, "--json"
    )
    assert json.loads(probed.stdout)["test_seen_in_pretraining"] is True
    assert (
        "4 of the 4 test videos were seen in pre-training (the train side of protocol cross-subject, and what an earlier" in probed.stderr
    )
