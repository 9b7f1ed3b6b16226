"""A deterministic run takes algorithms that repeat, says so in its settings, and refuses what has none."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cross4d_cache.errors import CheckpointError, SettingsError
from cross4d_cache.work import finish
from cross4d_train import determinism, loop
from cross4d_train.checkpoint import load_checkpoint
from cross4d_train.determinism import deterministic, prepare
from cross4d_train.loop import Pretraining, make_fabric
from cross4d_train.pretrain import pretrain
from cross4d_train.settings import RunSettings
from tests.cross4d_train.test_loop import make_settings
from tests.cross4d_train.test_precision import CPU, request


def settings_of(wanted: bool) -> RunSettings:
    settings = make_settings()
    return settings.model_copy(update={"training": settings.training.model_copy(update={"deterministic": wanted})})


@pytest.mark.parametrize("wanted", [False, True])
def test_only_the_steps_of_such_a_run_are_computed_so(store: Path, wanted: bool) -> None:
    training, seen = Pretraining(store, settings_of(wanted), make_fabric("cpu")), []

    def look(*_: object) -> None:
        seen.append((torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory))

    training.encoder.register_forward_hook(look)
    next(training.encoder.parameters()).register_hook(look)
    for _ in training.steps():
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.utils.deterministic.fill_uninitialized_memory
    assert set(seen) == {(wanted, not wanted)}


def test_what_was_on_before_stays_on() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with deterministic(True):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        with deterministic(False):
            assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_what_has_no_such_algorithm_is_named_and_costs_no_weights(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Pretraining(store, settings_of(True), make_fabric("cpu"))
    whole = type(training.objective).forward

    def forward(self: Any, encoder: Any, batch: Any) -> Any:
        torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))
        return whole(self, encoder, batch)

    monkeypatch.setattr(type(training.objective), "forward", forward)
    before = {name: value.clone() for name, value in training.encoder.state_dict().items()}
    with pytest.raises(SettingsError, match=r"(?s)does not repeat on this device: put_.*`training\.deterministic`"):
        next(training.steps())
    assert all(torch.equal(value, before[name]) for name, value in training.encoder.state_dict().items())


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="out of memory"), deterministic(True):
        raise RuntimeError("out of memory")
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_gpus_products_repeat_unless_the_surroundings_forbid_it(monkeypatch: pytest.MonkeyPatch) -> None:
    name = determinism._WORKSPACE
    monkeypatch.delenv(name, raising=False)
    prepare(torch.device("cpu"))
    assert name not in determinism.os.environ
    prepare(torch.device("cuda"))
    assert determinism.os.environ[name] == ":4096:8"
    monkeypatch.setenv(name, ":16:8")
    prepare(torch.device("cuda"))
    monkeypatch.setenv(name, ":0:0")
    with pytest.raises(SettingsError, match=r"CUBLAS_WORKSPACE_CONFIG=:0:0 with `training\.deterministic`"):
        prepare(torch.device("cuda"))


@pytest.mark.parametrize("wanted", [False, True])
def test_only_such_a_run_prepares_its_device(store: Path, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[torch.device] = []
    monkeypatch.setattr(loop, "prepare", prepared.append)
    Pretraining(store, settings_of(wanted), make_fabric("cpu"))
    assert prepared == [torch.device("cpu")] * wanted


def test_it_is_recorded_and_belongs_to_the_run(store: Path, tmp_path: Path) -> None:
    option = {"training.deterministic": True}
    finish(pretrain(request(store, tmp_path / "run", **option), CPU))
    assert load_checkpoint(tmp_path / "run/checkpoint.safetensors").record.settings.training.deterministic
    with pytest.raises(CheckpointError, match=r"training\.deterministic: not set here, True there"):
        finish(pretrain(request(store, tmp_path / "run", **{"training.num_epochs": 2}), CPU))
    longer = finish(pretrain(request(store, tmp_path / "run", **option, **{"training.num_epochs": 2}), CPU))
    assert longer is not None
    assert longer.settings.training.deterministic
