import errno
import itertools
import json
from collections import Counter
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cross4d_cache.errors import CheckpointError, Cross4DError, OutputError
from cross4d_train.checkpoint import METADATA_KEY, Checkpoint, CheckpointRecord, load_checkpoint, load_encoder
from cross4d_train.clips import ClipSettings
from cross4d_train.encoders import build_encoder
from cross4d_train.encoders.point4d import SIZES, Point4D
from cross4d_train.settings import EncoderSettings, Origin, RunSettings, TrainingSettings
from tests.cross4d_cache.store.test_hostile import WORDS
from tests.failing import failing


@pytest.fixture
def checkpoint():
    settings = RunSettings(
        encoder=EncoderSettings(size="tiny"),
        clips=ClipSettings(num_frames=3, num_points=64, stride=1),
        training=TrainingSettings(num_epochs=2),
    )
    origin = Origin(dataset="fake", fingerprint="f", sequences="s", teacher="t", random_teacher=False, target_channels=8)
    encoder = build_encoder("point4d", "tiny", seed=5)
    return Checkpoint(
        record=CheckpointRecord(
            settings=settings,
            origin=origin,
            encoder_config=encoder.config.model_dump(mode="json"),
            step=4,
            epoch=1,
            num_steps=8,
            software={},
        ),
        tensors={f"encoder.{name}": value for name, value in encoder.state_dict().items()},
    )


def test_round_trip(tmp_path, checkpoint):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path)
    loaded = load_checkpoint(path)
    assert loaded.record == checkpoint.record
    assert list(tmp_path.iterdir()) == [path]
    encoder = load_encoder(loaded)
    assert all(torch.equal(value, checkpoint.tensors[f"encoder.{name}"]) for name, value in encoder.state_dict().items())


def test_saving_replaces_whole_files_only(tmp_path, checkpoint, monkeypatch):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        checkpoint.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 a pickle in a zip"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "c.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)


@pytest.mark.parametrize("keep", [4, 100, -1])
def test_truncated_files_are_refused(tmp_path, checkpoint, keep):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_checkpoint(tmp_path)


def test_plain_safetensors_and_other_versions_are_refused(tmp_path, checkpoint):
    path = tmp_path / "c.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="no checkpoint of cross4d"):
        load_checkpoint(path)
    record = json.loads(checkpoint.record.model_dump_json())
    save_file({"a": torch.zeros(1)}, path, metadata={METADATA_KEY: json.dumps(record | {"format_version": 99})})
    with pytest.raises(CheckpointError, match="format version 99"):
        load_checkpoint(path)
    save_file({"a": torch.zeros(1)}, path, metadata={METADATA_KEY: json.dumps(record | {"step": "many"})})
    with pytest.raises(CheckpointError, match="settings cannot be read"):
        load_checkpoint(path)
    save_file({"a": torch.zeros(1)}, path, metadata={METADATA_KEY: "[]"})
    with pytest.raises(CheckpointError, match=r"(?s)settings cannot be read.*expected: .*next: "):
        load_checkpoint(path)


def test_weights_that_do_not_fit_are_named(checkpoint):
    tensors = dict(checkpoint.tensors)
    del tensors["encoder.norm.weight"]
    tensors["encoder.extra"] = torch.zeros(1)
    tensors["encoder.norm.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"(?s)missing: norm.weight.*not known: extra.*norm.bias \(3,\) instead of \(32,\)"):
        load_encoder(Checkpoint(record=checkpoint.record, tensors=tensors))


@pytest.mark.parametrize("sizes", [{}, {"tiny": SIZES["small"]}], ids=["gone", "changed"])
def test_sizes_may_change_or_go(checkpoint, monkeypatch, sizes):
    monkeypatch.setattr(Point4D, "sizes", sizes)
    encoder = load_encoder(checkpoint)
    assert encoder.config == SIZES["tiny"]
    assert all(torch.equal(value, checkpoint.tensors[f"encoder.{name}"]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"depth": 99}, "missing: blocks.1"),
        ({"depth": 10**12}, "field 'depth'"),
        ({"depth": "many"}, "field 'depth'"),
        ({"coarse": None}, "field 'coarse'"),
        ({"rotary": True}, "does not know rotary"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(checkpoint, change, said):
    config = {**checkpoint.record.encoder_config, **change}
    broken = Checkpoint(record=checkpoint.record.model_copy(update={"encoder_config": config}), tensors=checkpoint.tensors)
    with pytest.raises(CheckpointError, match=said):
        load_encoder(broken)


def test_a_changed_record_is_noticed(tmp_path, checkpoint):
    """One digit of a radius shows in no weight."""
    checkpoint.save(tmp_path / "c.safetensors")
    data = (tmp_path / "c.safetensors").read_bytes()
    (tmp_path / "d.safetensors").write_bytes(data.replace(rb"\"radius\":0.2", rb"\"radius\":0.3"))
    with pytest.raises(CheckpointError, match="differ from the ones that were written"):
        load_checkpoint(tmp_path / "d.safetensors")


def outcome_of_checkpoint(data, path):
    """An encoder, or one of our errors; anything else raises."""
    path.write_bytes(data)
    try:
        load_encoder(load_checkpoint(path))
    except Cross4DError as error:
        return type(error).__name__
    return "read"


def damage_checkpoint(whole, rng):
    """One to three damages, nearly all in the header, which says what follows."""
    header = 8 + int.from_bytes(whole[:8], "little")
    damaged = bytearray(whole)
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(header if rng.random() < 0.9 else len(whole)))
        kind = rng.choice(["flip", "word", "cut"])
        if kind == "flip":
            damaged[min(place, len(damaged) - 1)] ^= 1 << int(rng.integers(8))
        elif kind == "word":
            damaged[place : place + int(rng.integers(12))] = WORDS[rng.integers(len(WORDS))]
        else:
            del damaged[place : place + int(rng.integers(1, 40))]
    return bytes(damaged)


def test_what_could_not_be_read_is_not_called_damaged(tmp_path, checkpoint):
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path)
    answers = itertools.cycle([True, False])
    with failing(errno.ESTALE, lambda _, place: place == str(path) and next(answers)) as failed:
        assert load_checkpoint(path).record == checkpoint.record
    assert failed.total() >= 2
    for number, words in ((errno.EACCES, "permissions"), (errno.EIO, "disk")):
        with (
            mock.patch("time.sleep"),
            failing(number, lambda _, place: place == str(path)),
            pytest.raises(CheckpointError, match=rf"(?s)cannot be read.*next: look at the {words}"),
        ):
            load_checkpoint(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match=r"(?s)cannot be read.*next: copy it again"):
        load_checkpoint(path)


def test_damaged_headers_are_read_or_refused(tmp_path, checkpoint):
    checkpoint.save(tmp_path / "c.safetensors")
    whole = (tmp_path / "c.safetensors").read_bytes()
    found = Counter(
        outcome_of_checkpoint(damage_checkpoint(whole, np.random.default_rng(seed)), tmp_path / "d.safetensors") for seed in range(150)
    )
    assert found["CheckpointError"] > 50


def test_settings_that_nest_too_deep_are_refused(tmp_path, checkpoint):
    path = tmp_path / "c.safetensors"
    for text in ('{"a":' * 5000 + "1" + "}" * 5000, '{"format_version": "' + "9" * 10_000 + '"}'):
        save_file({name: value.clone() for name, value in checkpoint.tensors.items()}, path, metadata={METADATA_KEY: text})
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        assert len(str(caught.value)) < 1000
