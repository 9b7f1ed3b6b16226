"""What students compute in: a setting that is recorded, by default the device's own."""

from pathlib import Path

import pytest
import torch

from cross4d_cache.errors import CheckpointError, SettingsError
from cross4d_cache.work import finish
from cross4d_train.checkpoint import load_checkpoint
from cross4d_train.loop import Pretraining, make_fabric, own_precision
from cross4d_train.pretrain import PretrainRequest, pretrain
from cross4d_train.resources import Resources
from cross4d_train.settings import RunSettings
from tests.cross4d_train.test_loop import make_settings

CPU = Resources(device="cpu", num_workers=0)
OPTIONS = {
    "training.num_epochs": 1, "training.batch_size": 4, "clips.num_frames": 3, "clips.num_points": 64, "clips.stride": 1,
    "encoder.size": "tiny",
}  # fmt: skip


def request(store: Path, out: Path, **options: object) -> PretrainRequest:
    return PretrainRequest(store=str(store), out=out, options={**OPTIONS, **options}, logger="none")


def in_precision(precision: str | None) -> RunSettings:
    settings = make_settings()
    return settings.model_copy(update={"training": settings.training.model_copy(update={"precision": precision})})


def test_devices_have_one_of_their_own() -> None:
    assert (own_precision("cpu"), own_precision("cuda")) == ("float32", "bfloat16")


def test_a_student_computes_in_what_is_asked_and_keeps_float32_weights(store: Path) -> None:
    curves = {}
    for precision in (None, "float32", "bfloat16"):
        training = Pretraining(store, in_precision(precision), make_fabric("cpu", precision=precision))
        seen: set[torch.dtype] = set()
        training.encoder.register_forward_hook(lambda module, inputs, tokens, seen=seen: seen.add(tokens.features.dtype))
        curves[precision] = [step.loss for step in training.steps()]
        assert torch.bfloat16 in seen if precision == "bfloat16" else seen == {torch.float32}
        assert {parameter.dtype for parameter in training.encoder.parameters()} == {torch.float32}
    assert curves["float32"] == curves[None]
    assert curves["bfloat16"] != curves[None]
    assert curves["bfloat16"] == pytest.approx(curves[None], rel=0.05)


def test_a_fabric_of_another_precision_is_refused(store: Path) -> None:
    with pytest.raises(SettingsError, match=r"`training\.precision` bfloat16 with a fabric of 32-true"):
        Pretraining(store, in_precision("bfloat16"), make_fabric("cpu"))


def test_a_run_records_what_it_computes_in_and_goes_on_in_it(store: Path, tmp_path: Path) -> None:
    finish(pretrain(request(store, tmp_path / "plain"), CPU))
    finish(pretrain(request(store, tmp_path / "half", **{"training.precision": "bfloat16"}), CPU))
    recorded = [
        load_checkpoint(tmp_path / name / "checkpoint.safetensors").record.settings.training.precision for name in ("plain", "half")
    ]
    assert recorded == ["float32", "bfloat16"]
    # the same command as on the machine that began it, whose own precision is another
    longer = finish(pretrain(request(store, tmp_path / "half", **{"training.num_epochs": 2}), CPU))
    assert longer is not None
    assert longer.settings.training.precision == "bfloat16"
    with pytest.raises(CheckpointError, match=r"training\.precision: float32 here, bfloat16 there"):
        finish(pretrain(request(store, tmp_path / "half", **{"training.num_epochs": 2, "training.precision": "float32"}), CPU))


def test_an_unknown_precision_is_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"(?s)training\.precision = 'half'.*float32.*bfloat16"):
        finish(pretrain(request(store, tmp_path / "run", **{"training.precision": "half"}), CPU))
