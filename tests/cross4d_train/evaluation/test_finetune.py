from collections import Counter

import numpy as np
import pytest
import torch

from cross4d_cache.errors import SettingsError
from cross4d_cache.types import SequenceInfo
from cross4d_train.clips import ClipSettings
from cross4d_train.data import BatchLoader, ClipDataset
from cross4d_train.encoders import build_encoder
from cross4d_train.evaluation.finetune import TuningSettings, choose_labelled, finetune, tuning_score
from tests.cross4d_train.conftest import make_infos, write_store

CLIPS = ClipSettings(num_frames=3, num_points=48, stride=2)
TRAIN, TEST = tuple(range(8)), tuple(range(8, 12))


@pytest.mark.parametrize(("fraction", "per_class"), [(0.01, 1), (0.1, 2), (0.5, 10), (1.0, 20)])
def test_labelled_videos_are_balanced_over_classes(fraction, per_class):
    infos = [SequenceInfo(id=str(index), num_frames=1, action=index % 5) for index in range(110)]
    train = tuple(range(3, 103))
    chosen = choose_labelled(infos, train, fraction=fraction, seed=1)
    assert set(chosen) <= set(train)
    assert len(set(chosen)) == len(chosen)
    assert Counter(infos[index].action for index in chosen) == dict.fromkeys(range(5), per_class)
    assert choose_labelled(infos, train, fraction=fraction, seed=1) == chosen
    assert fraction == 1 or choose_labelled(infos, train, fraction=fraction, seed=2) != chosen


@pytest.fixture
def easy_store(tmp_path, monkeypatch):
    """Bodies of one action are thin, those of the other broad."""

    def make_points(info, rng):
        broad = 0.1 + 0.5 * info.action
        points = (rng.uniform([-broad, -0.9, 2.7], [broad, 0.9, 3.3], size=(100, 3)) for _ in range(info.num_frames))
        return [frame.astype(np.float32) for frame in points]

    monkeypatch.setattr("tests.cross4d_train.conftest.make_points", make_points)
    return write_store(tmp_path / "easy.zarr", make_infos())


def tune(store, **settings):
    encoder = build_encoder("point4d", "tiny")
    defaults = {"fraction": 0.5, "num_epochs": 12, "learning_rate": 1e-3, "num_windows": 2}
    chosen = TuningSettings(**(defaults | settings))
    score = tuning_score(list(finetune(encoder, BatchLoader(ClipDataset(store, CLIPS)), train=TRAIN, test=TEST, settings=chosen)), chosen)
    return score, encoder


def test_few_videos_are_learned_and_the_same_twice(easy_store):
    (score, encoder), (again, other) = tune(easy_store), tune(easy_store)
    assert (score.num_labelled, score.train_accuracy, score.video_accuracy) == (4, 1, 1)
    assert score == again
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(encoder.parameters(), other.parameters(), strict=True))
    untrained = build_encoder("point4d", "tiny")
    assert any(not torch.equal(mine, theirs) for mine, theirs in zip(encoder.parameters(), untrained.parameters(), strict=True))
    assert not encoder.training


def test_unlabelled_videos_are_no_class_of_their_own(tmp_path):
    infos = make_infos()
    infos[0], infos[8] = (infos[index].model_copy(update={"action": -1}) for index in (0, 8))
    score, _ = tune(write_store(tmp_path / "store.zarr", infos), fraction=1.0, num_epochs=1)
    assert score.num_labelled == 7
    assert score.video_accuracy * 3 == pytest.approx(round(score.video_accuracy * 3))


@pytest.mark.parametrize(
    ("infos", "message"),
    [(make_infos(labelled=False), "no video"), (make_infos(test_actions=(0, 2)), r"lacks: \[2\]")],
)
def test_labels_that_no_classifier_can_work_with(tmp_path, infos, message):
    with pytest.raises(SettingsError, match=message):
        tune(write_store(tmp_path / "store.zarr", infos))
