"""The students that come with the package: whole, small, as their cards say, and of use."""

import json

import numpy as np
import pytest
import torch

from cross4d_cache.build.build import build_store
from cross4d_cache.build.request import BuildRequest, BuildSettings, DatasetRequest
from cross4d_cache.errors import CheckpointError
from cross4d_cache.store import open_cache
from cross4d_cache.store.digest import sha256_file
from cross4d_cache.work import finish
from cross4d_train import load
from cross4d_train.exported import CARD_FILE, CONFIG_FILE, FILES, WEIGHTS_FILE, read_config
from cross4d_train.places import STUDENTS, checkpoint_at, packaged
from pipelines.packaged_student import TRAINING


def test_there_is_one():
    assert packaged() == ["bodies"]


def test_it_is_an_export_that_its_pipeline_makes():
    folder = STUDENTS / "bodies"
    assert {path.name for path in folder.iterdir()} == set(FILES)
    config = read_config(folder / CONFIG_FILE)
    assert config.sha256 == sha256_file(folder / WEIGHTS_FILE)
    settings = config.settings
    assert (settings.encoder.name, settings.encoder.size, settings.objective.name) == ("point4d", "small", "dense")
    assert settings.clips.model_dump() == {name: TRAINING[f"clips.{name}"] for name in ("num_frames", "num_points", "stride")}
    assert settings.training.num_epochs == TRAINING["training.num_epochs"]
    assert config.step == config.num_steps
    assert (config.origin.dataset, config.origin.teacher, config.origin.random_teacher) == ("synthetic", "tiny (embedded)", False)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000
    assert "license: apache-2.0" in (folder / CARD_FILE).read_text()


def test_it_loads_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    student = load("bodies", device="cpu")
    assert sum(item.numel() for item in student.encoder.parameters()) == 301_072
    points = np.random.default_rng(0).normal([0, 0, 3], 0.4, (3, 600, 3)).astype(np.float32)
    assert student.features(points).shape == (3, 600, 96)
    assert student.predict(points).shape == (3, 600, 144)
    sha256 = json.loads((STUDENTS / "bodies" / CONFIG_FILE).read_text())["sha256"]
    assert checkpoint_at("bodies", sha256=sha256) == STUDENTS / "bodies" / WEIGHTS_FILE


def test_what_lies_here_goes_before_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bodies").mkdir()
    with pytest.raises(CheckpointError, match="bodies has no student in it"):
        load("bodies")


def test_it_predicts_what_the_teacher_says_of_bodies_that_it_has_not_seen(tmp_path):
    """Cosine about the mean of the targets, after whitening as in training: of another seed's people, far above zero."""
    options = {"num_humans": "1", "num_animals": "0", "min_frames": "12", "max_frames": "12", "seed": "31"}
    request = BuildRequest(dataset=DatasetRequest(options=options), settings=BuildSettings(points_per_frame=512, limit=3))
    finish(build_store(request, tmp_path / "s.zarr", device="cpu"))
    student, cache, cosines = load("bodies", device="cpu"), open_cache(tmp_path / "s.zarr"), []
    for index, info in enumerate(cache.sequences):
        clip = cache.read_clip(index, np.arange(info.num_frames))
        targets, seen = clip.targets()
        predicted = np.concatenate(student.predict(np.split(clip.points, clip.point_offsets[1:-1])))
        conditioned = [
            student.head.conditioning(torch.from_numpy(values), torch.zeros(len(values), dtype=torch.int64))
            for values in (targets[seen], predicted[seen])
        ]
        cosines.append(torch.nn.functional.cosine_similarity(*conditioned).mean().item())
    assert min(cosines) > 0.3
