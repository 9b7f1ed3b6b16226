import itertools
import json
import math

import pytest
import torch
from lightning_fabric import Fabric

from cross4d_cache.errors import CheckpointError, OutputError, SettingsError
from cross4d_train.augment import augment
from cross4d_train.checkpoint import load_checkpoint
from cross4d_train.clips import ClipSettings
from cross4d_train.data import BatchLoader
from cross4d_train.loop import Pretraining, learning_rate, make_fabric
from cross4d_train.objectives import OBJECTIVES
from cross4d_train.run import RunFolder
from cross4d_train.settings import EncoderSettings, RunSettings, TrainingSettings
from tests.cross4d_train.conftest import make_infos, write_store

CURVE = ("step", "epoch", "loss", "scalars", "learning_rate")


def make_settings(**training) -> RunSettings:
    defaults = {"num_epochs": 3, "batch_size": 3, "learning_rate": 3e-3, "side": "train", "protocol": "cross-subject"}
    return RunSettings(
        encoder=EncoderSettings(size="tiny"),
        clips=ClipSettings(num_frames=3, num_points=48, stride=1),
        training=TrainingSettings(**(defaults | training)),
    )


def make_training(store, settings=None, **options) -> Pretraining:
    return Pretraining(store, settings or make_settings(), make_fabric("cpu"), **options)


def curve(records):
    return [tuple(getattr(record, name) for name in CURVE) for record in records]


def test_records_count_steps_and_epochs(store):
    records = list(make_training(store).steps())
    assert [record.step for record in records] == list(range(9))
    assert [record.epoch for record in records] == [0] * 3 + [1] * 3 + [2] * 3
    assert all(0 <= record.waiting <= 1 and record.clips_per_second > 0 for record in records)


def test_same_twice(store):
    assert curve(make_training(store).steps()) == curve(make_training(store).steps())


def test_loss_goes_down(store):
    records = list(make_training(store, make_settings(num_epochs=25)).steps())
    first, last = records[:6], records[-6:]
    assert sum(record.loss for record in last) < 0.75 * sum(record.loss for record in first)
    assert sum(record.scalars["cosine"] for record in last) > sum(record.scalars["cosine"] for record in first)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_resumed_run_repeats_the_curve_bit_for_bit(store, tmp_path, stop):
    whole = make_training(store)
    expected = curve(whole.steps())
    begun = make_training(store)
    list(itertools.islice(begun.steps(), stop))
    begun.checkpoint().save(tmp_path / "checkpoint.safetensors")
    folder = RunFolder(tmp_path)
    torch.manual_seed(99)
    resumed = make_training(store, checkpoint=folder.load())
    assert curve(resumed.steps()) == expected[stop:]
    for name, value in whole.checkpoint().tensors.items():
        assert torch.equal(resumed.checkpoint().tensors[name], value), name


def hidden_state(module):
    """What a module holds beside its parameters and buffers, which checkpoints have: numbers and tensors of all modules within."""
    return {
        f"{name}.{key}": value.clone() if isinstance(value, torch.Tensor) else value
        for name, inner in module.named_modules()
        for key, value in vars(inner).items()
        if key != "training" and isinstance(value, torch.Tensor | int | float | str | tuple | type(None))
    }


SWITCHED = [*OBJECTIVES.built_in, "forecast:field+rollout"]
OTHERS = [("ijepa", "p4transformer"), ("vicreg", "p4transformer")]


@pytest.mark.parametrize(("objective", "encoder"), [*((name, "point4d") for name in SWITCHED), *OTHERS])
def test_every_objective_repeats_its_curve_after_a_resume_in_the_middle_of_an_epoch(store, objective, encoder):
    settings = make_settings().changed({"objective.name": objective, "encoder.name": encoder})
    whole = make_training(store, settings)
    expected = curve(whole.steps())
    begun = make_training(store, settings)
    before = hidden_state(begun.objective) | hidden_state(begun.encoder)
    list(itertools.islice(begun.steps(), 4))
    assert str(hidden_state(begun.objective) | hidden_state(begun.encoder)) == str(before)  # what moves is in the checkpoint
    assert all(buffer in begun.objective.state_dict() for buffer, _ in begun.objective.named_buffers())
    resumed = make_training(store, settings, checkpoint=begun.checkpoint())
    assert curve(resumed.steps()) == expected[4:]
    for name, value in whole.checkpoint().tensors.items():
        assert torch.equal(resumed.checkpoint().tensors[name], value), name


def test_frozen_copies_are_not_trained(store):
    training = make_training(store, make_settings().changed({"objective.name": "ijepa"}))
    trained = {id(parameter) for group in training._optimizer.param_groups for parameter in group["params"]}
    assert not trained & {id(parameter) for parameter in training.objective.target.parameters()}
    assert {id(parameter) for parameter in training.encoder.parameters()} <= trained


def test_a_killed_run_resumes_from_its_folder_with_a_whole_log(store, tmp_path):
    expected = curve(RunFolder(tmp_path / "whole").record(make_training(store)))
    folder = RunFolder(tmp_path / "run")
    killed = folder.record(make_training(store))
    list(itertools.islice(killed, 5))  # one epoch of three steps is saved, two more steps are only in the log
    killed.close()
    with folder.log_path.open("a") as log:
        log.write('{"step": 5, "lo')
    again = RunFolder(tmp_path / "run")
    checkpoint = again.load()
    assert checkpoint.record.step == 3
    list(again.record(make_training(store, checkpoint=checkpoint)))
    logged = [json.loads(line) for line in again.log_path.read_text().splitlines()]
    assert [tuple(line[name] for name in CURVE) for line in logged] == expected
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"checkpoint.safetensors", "log.jsonl", "settings.json", "tensorboard"}


AUGMENTED = make_settings().changed({"augmentation": {"yaw_degrees": "180", "tilt_degrees": "30", "scale": "0.1", "jitter_metres": "0.01"}})


def test_augmented_clips_come_to_the_objective_with_the_targets_of_the_points_as_they_were(store, monkeypatch):
    training, seen = make_training(store, AUGMENTED), []
    monkeypatch.setattr(type(training.objective), "forward", lambda self, encoder, batch: seen.append(batch) or stop())

    def stop():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        next(training.steps())
    [batch] = seen
    [plain] = itertools.islice(BatchLoader(training.dataset).load(make_training(store).plan), 1)
    centre = plain.points.mean(dim=(1, 2), keepdim=True)
    before, after = (points - centre for points in (plain.points, batch.points))
    assert (after - before).norm(dim=-1).mean() > 0.1
    assert ((after.norm(dim=-1) / before.norm(dim=-1) - 1).abs() < 0.3).float().mean() > 0.95
    for name in ("rows", "features", "patches", "actions"):
        assert torch.equal(getattr(batch, name), getattr(plain, name))
    drawn_by_the_objective = augment(plain.points, AUGMENTED.augmentation, plain.generator())
    assert not torch.allclose(batch.points, drawn_by_the_objective, atol=0.05)


def test_augmentation_is_part_of_the_run(store, tmp_path):
    full = curve(make_training(store, AUGMENTED).steps())
    assert full != curve(make_training(store).steps())
    assert full == curve(make_training(store, AUGMENTED, num_workers=2).steps())
    training = make_training(store, AUGMENTED)
    first = curve(itertools.islice(training.steps(), 4))
    training.checkpoint().save(tmp_path / "checkpoint.safetensors")
    checkpoint = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert checkpoint.record.settings == AUGMENTED
    assert first + curve(make_training(store, AUGMENTED, checkpoint=checkpoint).steps()) == full
    with pytest.raises(CheckpointError, match=r"augmentation\.yaw_degrees: not set here, 180\.0 there"):
        make_training(store, checkpoint=checkpoint)


@pytest.mark.parametrize(
    ("moves", "said"), [({"yaw": "3"}, "'yaw' of `augmentation`"), ({"scale": "1"}, "'scale' of `augmentation`: .*less than 1")]
)
def test_augmentations_that_there_are_not(moves, said):
    with pytest.raises(SettingsError, match=said):
        make_settings().changed({"augmentation": moves})


def test_workers_do_not_change_the_curve(store):
    assert curve(make_training(store, num_workers=1).steps()) == curve(make_training(store).steps())


def test_other_settings_or_another_cache_are_refused(store, tmp_path):
    checkpoint = make_training(store).checkpoint()
    with pytest.raises(CheckpointError, match=r"training.seed: 7 here, 0 there"):
        make_training(store, make_settings(seed=7), checkpoint=checkpoint)
    other = write_store(tmp_path / "other.zarr", make_infos(), weights="random:0")
    with pytest.raises(CheckpointError, match=r"(?s)cache fingerprint: .*cache random_teacher: True here"):
        make_training(other, checkpoint=checkpoint)


def test_a_store_without_targets_is_refused(tmp_path):
    store = write_store(tmp_path / "bare.zarr", make_infos(), targets=False)
    with pytest.raises(SettingsError, match="holds no targets"):
        make_training(store)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(store):
    training = make_training(store)
    with torch.no_grad():
        training.objective.head.weight.fill_(math.inf)
    before = training.encoder.norm.weight.clone()
    with pytest.raises(SettingsError, match="the loss became nan at step 0"):
        list(training.steps())
    assert torch.equal(training.encoder.norm.weight, before)


def test_learning_rate_warms_up_and_decays():
    settings = TrainingSettings(num_epochs=1, learning_rate=1.0)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] < 0.001
    assert learning_rate(settings, 0, 1) == 1.0


@pytest.mark.parametrize("name", ["abacus", "cuda:", "cuda:-1", "cpu:0", "meta", ""])
def test_unknown_device_is_refused(name):
    with pytest.raises(SettingsError, match=r"(?s)auto, cpu, cuda, cuda:N.*next: "):
        make_fabric(name)


@pytest.fixture
def fabrics(monkeypatch):
    """What Fabric would be made with on a machine with two GPUs."""
    made = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)

    def make(*, accelerator, devices, **_):
        made.append((accelerator, devices))
        return Fabric(accelerator="cpu")

    monkeypatch.setattr("cross4d_train.loop.Fabric", make)
    return made


def test_devices_by_name(fabrics):
    for name, num_devices in (("auto", 1), ("cpu", 2), ("cuda", 2), ("cuda:0", 1), ("cuda:1", 1)):
        make_fabric(name, num_devices)
    assert fabrics == [("cuda", 1), ("cpu", 2), ("cuda", 2), ("cuda", [0]), ("cuda", [1])]


@pytest.mark.parametrize(("name", "num_devices"), [("cuda:2", 1), ("cuda:0", 2), ("cuda", 3), ("auto", 3)])
def test_devices_that_are_not_there(fabrics, name, num_devices):
    with pytest.raises(SettingsError, match=r"(?s)expected: .*next: "):
        make_fabric(name, num_devices)
    assert fabrics == []


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_no_gpu_at_all(monkeypatch, name):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SettingsError, match=r"(?s)no CUDA device.*expected: .*next: "):
        make_fabric(name)


def test_run_folder_is_a_file_or_taken(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        RunFolder(tmp_path / "file")
    with pytest.raises(OutputError, match="cannot write"):
        RunFolder(tmp_path / "file" / "run")
