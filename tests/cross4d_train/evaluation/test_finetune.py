from collections import Counter

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from cross4d_cache.errors import SettingsError
from cross4d_cache.types import SequenceInfo
from cross4d_train.clips import ClipRequest, ClipSettings
from cross4d_train.data import BatchLoader, collate
from cross4d_train.dataset import ClipDataset
from cross4d_train.encoders import build_encoder
from cross4d_train.evaluation.base import VideoPrediction
from cross4d_train.evaluation.finetune import (
    EpochScore,
    FinetuneSettings,
    Finetuning,
    TuningSettings,
    _even_batches,
    choose_labelled,
    finetune,
    tuning_score,
)
from cross4d_train.evaluation.heads import recompute_norm
from tests.cross4d_train.conftest import make_infos, write_store
from tests.cross4d_train.evaluation.by_hand import Coordinates, Video, across, clips_of, finish, record_rates, write_videos

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


def test_a_share_of_a_class_is_rounded():
    """Three videos of either class: 0.6 of them are 1.8, so two; 0.4 are 1.2, so one; 0.1 are none, and one is the least."""
    infos = [SequenceInfo(id=str(index), num_frames=1, action=index % 2) for index in range(6)]
    counts = {fraction: len(choose_labelled(infos, range(6), fraction=fraction, seed=0)) for fraction in (0.6, 0.4, 0.1)}
    assert counts == {0.6: 4, 0.4: 2, 0.1: 2}


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


def test_the_last_epoch_is_quoted_and_not_the_best():
    """Test videos chose the best, so it stands beside."""
    guesses = [
        tuple(VideoPrediction(id=id, action=0, predicted=guess) for id, guess in zip("abcde", row, strict=True))
        for row in ([0] * 5, [1] * 5)
    ]
    epochs = [
        EpochScore(num_labelled=3, train_accuracy=0.5, video_accuracy=0.8, predictions=guesses[0]),
        EpochScore(num_labelled=3, train_accuracy=1.0, video_accuracy=None, predictions=()),
        EpochScore(num_labelled=3, train_accuracy=0.7, video_accuracy=0.4, predictions=guesses[1]),
    ]
    score = tuning_score(epochs, TuningSettings(fraction=0.25))
    assert (score.video_accuracy, score.best_test_epoch, score.train_accuracy) == (0.4, 0.8, 0.7)
    assert (score.fraction, score.num_labelled, score.predictions) == (0.25, 3, guesses[1])


def test_batches_of_like_size():
    """Seven clips, at most three at a time: three batches, and none of a single clip, as 3 + 3 + 1 would have."""
    items = [ClipRequest(sequence=number, start=0, key=(number,)) for number in range(7)]
    batches = _even_batches(items, 3)
    assert [len(batch) for batch in batches] == [2, 2, 3]
    assert [item for batch in batches for item in batch] == items
    assert [len(batch) for batch in _even_batches(items[:6], 3)] == [3, 3]
    with pytest.raises(ValidationError, match="greater than or equal to 3"):
        TuningSettings(batch_size=2)  # three clips would be two and one


def test_the_norm_follows_the_labelled_clips_after_few_steps(tmp_path):
    """Bodies at x = 100 and 102: after eight steps a running mean has come from 0 to 1 - 0.9^8, 57 % of the way, so both would lie far on
    one side of it; with the mean of the clips they lie one deviation below and above.
    """
    places = (("train", 0, 100), ("train", 1, 102), ("train", 0, 100), ("train", 1, 102), ("test", 0, 100), ("test", 1, 102))
    videos = [Video(id=f"{number}", side=side, action=action, frames=across(place)) for number, (side, action, place) in enumerate(places)]
    path = write_videos(tmp_path / "store.zarr", videos)
    settings = TuningSettings(fraction=1, num_epochs=8, learning_rate=0.3, num_windows=1)
    loader = BatchLoader(ClipDataset(path, clips_of(1)))
    score = tuning_score(list(finetune(Coordinates((0,)), loader, train=range(4), test=range(4, 6), settings=settings)), settings)
    assert score.video_accuracy == 1


@pytest.fixture
def three_videos(tmp_path):
    """Training: two bodies a class, at x = -1 or -2, or at 1 or 2. Test: one where it belongs, one that is there in two of its three
    frames, one labelled against what it shows.
    """
    videos = [Video(id=f"left{x}", side="train", action=3, frames=across(x, x, x)) for x in (-1, -2)]
    videos += [Video(id=f"right{x}", side="train", action=8, frames=across(x, x, x)) for x in (1, 2)]
    videos += [
        Video(id="plain", side="test", action=3, frames=across(-1, -1, -1)),
        Video(id="late", side="test", action=8, frames=across(-1, 1, 1)),
        Video(id="odd", side="test", action=3, frames=across(1, 1, 1)),
    ]
    return write_videos(tmp_path / "three.zarr", videos)


def test_three_videos_by_hand(three_videos):
    """Clips of one frame, three windows a video, tested after epochs 8, 16, 24 and, as it is the last, 30."""
    settings = FinetuneSettings(
        clips=clips_of(1), num_windows=3, num_epochs=30, test_every=8, learning_rate=0.1, batch_size=4, fractions=(1.0, 0.5)
    )
    result = finish(Finetuning, three_videos, settings)
    assert [(score.fraction, score.num_labelled) for score in result.scores] == [(1, 4), (0.5, 2)]
    for score in result.scores:
        assert (score.train_accuracy, score.video_accuracy) == (1, pytest.approx(2 / 3))
        assert [(item.id, item.action, item.predicted) for item in score.predictions] == [("plain", 3, 3), ("late", 8, 8), ("odd", 3, 8)]
    assert (result.num_train_videos, result.num_test_videos) == (4, 3)


def test_when_it_is_tested_and_at_which_rates(three_videos, monkeypatch):
    """Half a cosine over four epochs: (1 + cos(0, 45, 90 and 135 degrees)) / 2. Tested after every third epoch and the last."""
    rates = record_rates(monkeypatch)
    settings = TuningSettings(fraction=1, num_epochs=4, test_every=3, learning_rate=0.1, batch_size=4, num_windows=1)
    loader = BatchLoader(ClipDataset(three_videos, clips_of(1)))
    epochs = list(finetune(Coordinates(), loader, train=range(4), test=range(4, 7), settings=settings))
    assert [epoch.video_accuracy is None for epoch in epochs] == [True, True, False, False]
    assert rates == pytest.approx([0.1, 0.0853553, 0.05, 0.0146447], rel=1e-5)


def test_the_norm_is_that_of_the_labelled_clips(three_videos):
    """Means of x over the points of the four training clips: -1, -2, 1 and 2, so mean 0 and variance (1 + 4 + 1 + 4) / 4."""
    dataset = ClipDataset(three_videos, clips_of(1))
    clips = [dataset[ClipRequest(sequence=number, start=0, key=(number,))] for number in range(4)]
    norm = nn.BatchNorm1d(3, affine=False)
    recompute_norm(norm, Coordinates(), [collate(clips[:1]), collate(clips[1:])], torch.device("cpu"))
    assert float(norm.running_mean[0]) == pytest.approx(0, abs=1e-4)
    assert float(norm.running_var[0]) == pytest.approx(2.5, abs=1e-3)
    assert norm.running_mean[1:].tolist() == pytest.approx([0.5, 2], abs=1e-4)  # y is 0 or 1, z is 2
