import pytest
import torch

from cross4d_cache.errors import SettingsError
from cross4d_train.evaluation.features import VideoFeatures, labelled
from cross4d_train.evaluation.linear import HeadSettings, check_labels, fit_head

SETTINGS = HeadSettings(num_epochs=40, learning_rate=1e-2)


def make_videos(count, seed, *, separable=True, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    actions = torch.arange(count) % 4 * 3  # classes need not be consecutive
    centres = torch.randn(4, 16, generator=torch.Generator().manual_seed(0)) * 3
    features = torch.randn(count, 3, 16, generator=generator) + separable * centres[actions // 3].unsqueeze(1)
    return VideoFeatures(features=features * scale, actions=actions, ids=tuple(f"v{index}" for index in range(count)))


@pytest.mark.parametrize("standardise", [False, True])
def test_separable_features_are_learned(standardise):
    score = fit_head(make_videos(80, 1), make_videos(40, 2), SETTINGS, standardise=standardise)
    assert score.video_accuracy > 0.95
    assert score.clip_accuracy > 0.9
    assert {guess.action for guess in score.predictions} == {0, 3, 6, 9}
    assert sum(guess.action == guess.predicted for guess in score.predictions) / 40 == pytest.approx(score.video_accuracy)


def test_features_without_a_signal_stay_at_chance():
    score = fit_head(make_videos(80, 1, separable=False), make_videos(200, 2, separable=False), SETTINGS, standardise=True)
    assert 0.1 < score.video_accuracy < 0.4


def test_standardisation_makes_scale_irrelevant():
    scores = [
        fit_head(make_videos(40, 1, scale=scale), make_videos(40, 2, scale=scale), SETTINGS, standardise=True) for scale in (1.0, 100.0)
    ]
    assert scores[0].video_accuracy == pytest.approx(scores[1].video_accuracy, abs=0.03)


def test_same_seed_same_score():
    scores = [fit_head(make_videos(40, 1), make_videos(40, 2), SETTINGS, standardise=False) for _ in range(2)]
    assert scores[0] == scores[1]


def test_unlabelled_videos_are_left_out():
    videos = make_videos(8, 1)
    videos.actions[2] = -1
    assert len(labelled(videos).ids) == 7
    assert "v2" not in labelled(videos).ids


def test_labels_no_probe_can_work_with():
    with pytest.raises(SettingsError, match="no video on the training side"):
        check_labels([-1, -1], [0, 1])
    with pytest.raises(SettingsError, match="no video on the test side"):
        check_labels([0, 1], [-1])
    with pytest.raises(SettingsError, match="same action"):
        check_labels([0, 0], [0])
    with pytest.raises(SettingsError, match=r"1 actions that the training side lacks: \[2\]"):
        check_labels([0, 1], [0, 2])
