"""Numbers that mean nothing are never trained on or evaluated in silence."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cross4d_cache.build.build import build_store
from cross4d_cache.build.request import BuildRequest, BuildSettings, DatasetRequest, TeacherRequest
from cross4d_cache.errors import CacheCorruptError, CheckpointError, SettingsError
from cross4d_cache.store import NOT_VISIBLE, open_cache
from cross4d_cache.work import finish
from cross4d_train.checkpoint import Checkpoint, CheckpointRecord, load_checkpoint
from cross4d_train.encoders import build_encoder
from cross4d_train.evaluation.features import frozen
from cross4d_train.evaluation.linear import HeadSettings, fit_head
from cross4d_train.soundness import why_not_finite
from tests.cross4d_train.conftest import make_infos, write_store
from tests.cross4d_train.evaluation.test_linear import make_videos
from tests.cross4d_train.test_train_cli import SMALL, run


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert run("pretrain", "--cache", store, "--out", out, *SMALL, "--quiet", "--logger", "none").exit_code == 0
    return load_checkpoint(out / "checkpoint.safetensors")


def blind(contents):
    return replace(contents, patch_slot=np.full_like(contents.patch_slot, NOT_VISIBLE))


def unsound(values):
    values = values.copy()
    values[::5] = np.nan
    return values


WITH_NAN = {
    "features": lambda contents: replace(contents, features=unsound(contents.features)),
    "frame_features": lambda contents: replace(contents, frame_features=unsound(contents.frame_features)),
}


def changed(checkpoint, change, part="encoder"):
    """A checkpoint whose tensors of one part, those of numbers, are others."""
    tensors = {
        name: change(value) if name.startswith(part) and value.is_floating_point() else value for name, value in checkpoint.tensors.items()
    }
    return Checkpoint(record=checkpoint.record, tensors=tensors)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda value: value * torch.nan, "not finite: "),
        (lambda value: value + torch.inf, "not finite: "),
        (lambda value: value.double() * 1e300, "not finite: "),
        (lambda value: value.int(), "int32 instead of float32"),
        (lambda value: value * 1e30, "the encoder gives features that are NaN or infinite"),
    ],
    ids=["nan", "infinite", "beyond float32", "integers", "huge"],
)
def test_weights_that_mean_nothing_are_not_evaluated(store, trained, tmp_path, change, found):
    changed(trained, change).save(tmp_path / "c.safetensors")
    result = run("knn", "--checkpoint", tmp_path / "c.safetensors", "--cache", store, "--windows", 1, "--quiet")
    assert (result.exit_code, result.stdout) == (2, "")
    assert found in result.stderr
    assert "next: " in result.stderr


def test_half_precision_weights_are_weights(store, trained, tmp_path):
    changed(trained, torch.Tensor.half).save(tmp_path / "c.safetensors")
    assert run("knn", "--checkpoint", tmp_path / "c.safetensors", "--cache", store, "--windows", 1).exit_code == 0


def test_an_encoder_that_tells_nothing_apart_is_told(store, trained, tmp_path):
    changed(trained, torch.zeros_like).save(tmp_path / "c.safetensors")
    said = "note: all features are alike"
    for words in (["knn"], ["probe", "--epochs", 1]):
        result = run(*words, "--checkpoint", tmp_path / "c.safetensors", "--cache", store, "--windows", 1)
        assert result.exit_code == 0, result.output
        assert said in result.stderr
    assert said not in run("knn", "--checkpoint", "random", *SMALL[:6], "--cache", store, "--windows", 1).stderr


@pytest.mark.parametrize("change", [lambda value: value * torch.nan, lambda value: value - 1, torch.Tensor.int])
def test_optimizer_states_that_cannot_be_are_refused(store, trained, tmp_path, change):
    run("pretrain", "--cache", store, "--out", tmp_path / "run", *SMALL, "--quiet", "--logger", "none")
    changed(trained, change, part="optimizer").save(tmp_path / "run" / "checkpoint.safetensors")
    result = run("pretrain", "--cache", store, "--out", tmp_path / "run", "--resume")
    assert result.exit_code == 2
    assert "optimizer state of the checkpoint does not fit" in result.stderr


@pytest.mark.parametrize("numbers", [{"step": -5}, {"step": 99}, {"epoch": -1}, {"num_steps": 0, "step": 0}])
def test_steps_that_cannot_be_are_refused(trained, tmp_path, numbers):
    record = CheckpointRecord.model_construct(**{**dict(trained.record), **numbers})
    Checkpoint(record=record, tensors=trained.tensors).save(tmp_path / "c.safetensors")
    with pytest.raises(CheckpointError, match=r"(?s)settings cannot be read.*expected: .*next: "):
        load_checkpoint(tmp_path / "c.safetensors")


@pytest.mark.parametrize("options", [[], ["--objective", "global"], ["--conditioning", "none"]])
def test_a_store_in_which_nothing_is_visible_is_not_learned_from(tmp_path, options):
    path = write_store(tmp_path / "blind.zarr", make_infos(), change=blind)
    result = run("pretrain", "--cache", path, "--out", tmp_path / "run", *SMALL, *options)
    assert result.exit_code == 2
    assert "no camera sees a point of the 8 sequences" in result.stderr
    assert not (tmp_path / "run").exists()
    for words in (["knn", "--windows", 1], ["correspondence", "--gap", 1]):
        told = run(*words, "--checkpoint", "random", *SMALL[:6], "--cache", path)
        assert told.exit_code == 0, told.output
        assert "note: no point of the store is visible" in told.stderr


def test_a_store_without_a_teacher_is_not_blamed_for_having_no_targets(tmp_path):
    options = {"num_humans": "3", "num_animals": "0", "min_frames": "3", "max_frames": "3"}
    request = BuildRequest(
        dataset=DatasetRequest(options=options), teacher=TeacherRequest(name="none"), settings=BuildSettings(points_per_frame=64)
    )
    finish(build_store(request, tmp_path / "s.zarr", device="cpu"))
    told = run("knn", "--windows", 1, "--checkpoint", "random", *SMALL[:6], "--cache", tmp_path / "s.zarr")
    assert told.exit_code == 0, told.output
    assert "visible" not in told.stderr


def test_it_is_the_sequences_to_learn_from_that_count(tmp_path):
    """Those of the test side are visible."""

    def blind_train(contents):
        slots, end = contents.patch_slot.copy(), sum(info.num_frames for info in contents.sequences[:8])
        slots[: contents.point_offsets[end]] = NOT_VISIBLE
        return replace(contents, patch_slot=slots)

    path = write_store(tmp_path / "half.zarr", make_infos(), change=blind_train)
    result = run("pretrain", "--cache", path, "--out", tmp_path / "run", *SMALL)
    assert "no camera sees a point of the 8 sequences" in result.stderr
    assert run("pretrain", "--cache", path, "--out", tmp_path / "run", *SMALL, "--split", "test", "--logger", "none").exit_code == 0


@pytest.mark.parametrize("conditioning", ["none", "whiten:4"])
@pytest.mark.parametrize(("array", "objective"), [("features", "dense"), ("frame_features", "global")])
def test_targets_that_are_no_numbers_are_the_builds_fault(tmp_path, array, objective, conditioning):
    path = write_store(tmp_path / "nan.zarr", make_infos(), change=WITH_NAN[array])
    words = ("--objective", objective, "--conditioning", conditioning, "--logger", "none")
    result = run("pretrain", "--cache", path, "--out", tmp_path / "run", *SMALL, *words)
    assert result.exit_code == 2
    assert "was built with targets that are NaN or infinite, in s" in result.stderr
    assert "`verify` finds nothing; build it again, with other weights" in result.stderr


def test_a_loss_that_diverges_is_the_runs_fault(store, make_batch):
    cache = open_cache(store)
    assert "lower `training.learning_rate`" in str(why_not_finite(float("nan"), 3, make_batch(), cache))
    far = replace(make_batch(), points=make_batch().points * torch.inf)
    assert "was built with points that are NaN or infinite, in s0, s1" in str(why_not_finite(float("nan"), 3, far, cache))


def test_frames_without_points_are_refused(tmp_path):
    def empty(contents):
        offsets = contents.point_offsets.copy()
        offsets[3] = offsets[2]
        return replace(contents, point_offsets=offsets)

    path = write_store(tmp_path / "empty.zarr", make_infos(), change=empty)
    with pytest.raises(CacheCorruptError, match="contradict one another"):
        open_cache(path).read_clip(0, np.arange(3))


def test_a_head_that_diverges_is_refused():
    with pytest.raises(SettingsError, match=r"(?s)the loss became .* while labels were learned.*expected: .*next: lower `learning_rate`"):
        fit_head(make_videos(8, 1, scale=1e38), make_videos(8, 2), HeadSettings(num_epochs=2), standardise=False)


def test_the_check_of_features_ends_with_the_evaluation():
    encoder = build_encoder("point4d", "tiny")
    with frozen(encoder):
        assert len(encoder._forward_hooks) == 1
    assert not encoder._forward_hooks


def test_more_neighbours_than_clips_are_told(store):
    words = ("knn", "--checkpoint", "random", *SMALL[:6], "--cache", store, "--windows", 1)
    assert "note: 10 neighbours of 8 training clips" in run(*words).stderr
    assert "neighbours of" not in run(*words, "--neighbours", 7).stderr


def test_test_sides_that_say_little_are_told(tmp_path):
    single = write_store(tmp_path / "single.zarr", make_infos()[:9])
    assert "note: the test side has a single video" in run("knn", "--checkpoint", "random", *SMALL[:6], "--cache", single).stderr
    same = write_store(tmp_path / "same.zarr", make_infos(test_actions=(1,)))
    assert "note: all test videos have the same action" in run("knn", "--checkpoint", "random", *SMALL[:6], "--cache", same).stderr
