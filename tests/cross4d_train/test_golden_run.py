"""A run that release 0.1 began on the golden store and left in the middle: every later version loads, judges and finishes it.

Settings: point4d tiny, 2 frames of 32 points, 4 epochs of 3 steps, batches of 2, `center`, all sequences, seed 0. `whole_log.jsonl` and
`result.json` are of the same run, never stopped.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from cross4d_train.checkpoint import load_checkpoint, load_encoder
from cross4d_train.loop import Pretraining, make_fabric
from cross4d_train.run import RunFolder, RunResult
from cross4d_train.settings import RunSettings

GOLDEN = Path(__file__).parent / "golden"
STORE = Path(__file__).parents[1] / "cross4d_cache" / "store" / "golden" / "store_v1.zip"


def check_resumed(place: Path) -> None:
    """Finish the run in a copy of its folder; its losses are those of the run that never stopped, but for how a processor rounds."""
    shutil.copytree(GOLDEN / "run_v1", place)
    folder = RunFolder(place)
    checkpoint = folder.load()
    assert checkpoint is not None
    assert checkpoint.record.step == 6
    settings = RunSettings.from_json((place / "settings.json").read_bytes())
    assert settings == checkpoint.record.settings
    training = Pretraining(STORE, settings, make_fabric("cpu"), checkpoint=checkpoint)
    list(folder.record(training))
    expected = [json.loads(line) for line in (GOLDEN / "whole_log.jsonl").read_text().splitlines()]
    found = [json.loads(line) for line in folder.log_path.read_text().splitlines()]
    assert [record["step"] for record in found] == list(range(12)) == [record["step"] for record in expected]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.keys() >= theirs.keys()
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-4)
        assert mine["scalars"] == pytest.approx(theirs["scalars"], abs=1e-4)
    result, written = folder.result(training), RunResult.from_json((GOLDEN / "result.json").read_bytes())
    assert (result.settings, result.origin, result.num_sequences) == (written.settings, written.origin, written.num_sequences)
    assert result.loss == pytest.approx(written.loss, abs=1e-4)


def test_it_is_resumed_to_the_same_losses(tmp_path: Path) -> None:
    check_resumed(tmp_path / "run")


def test_its_encoder_is_the_one_that_was_trained() -> None:
    checkpoint = load_checkpoint(GOLDEN / "run_v1" / "checkpoint.safetensors")
    encoder = load_encoder(checkpoint)
    assert encoder.config.model_dump(mode="json") == checkpoint.record.encoder_config
    points = torch.linspace(-0.5, 0.5, 2 * 32 * 3).reshape(1, 2, 32, 3)
    tokens = encoder(points)
    assert tokens.features.shape == (1, 8, 32)
    assert tokens.features.isfinite().all()
