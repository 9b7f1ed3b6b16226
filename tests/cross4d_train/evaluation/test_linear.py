import pytest
import torch
from torch import nn

from cross4d_cache.errors import SettingsError
from cross4d_train.evaluation.features import VideoFeatures, labelled
from cross4d_train.evaluation.linear import HeadSettings, LinearHead, accuracy, check_labels, fit_head, moments, train_head
from cross4d_train.initialise import build_seeded

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


def videos_of(*videos, actions):
    """One channel; for each video the features of its windows."""
    features = torch.tensor(videos, dtype=torch.float32).unsqueeze(-1)
    return VideoFeatures(features=features, actions=torch.tensor(actions), ids=tuple(f"v{index}" for index in range(len(videos))))


def test_standardisation_takes_all_windows_and_no_others():
    """Windows 0, 2, 4, 10: mean 4, deviation sqrt((16 + 4 + 0 + 36) / 4), that of the population."""
    head = train_head(videos_of((0, 2), (4, 10), actions=(3, 8)), SETTINGS, standardise=True)
    assert head.mean.tolist() == [4]
    assert head.deviation.tolist() == pytest.approx([14**0.5])
    assert head.classes.tolist() == [3, 8]
    plain = train_head(videos_of((0, 2), (4, 10), actions=(3, 8)), SETTINGS, standardise=False)
    assert (plain.mean.tolist(), plain.deviation.tolist()) == (0, 1)


def test_a_channel_that_does_not_vary_keeps_its_scale_finite():
    mean, deviation = moments(torch.tensor([[5.0], [5.0]]))
    assert (mean.tolist(), deviation.tolist()) == ([5], pytest.approx([1e-6]))


def head_of(*, mean=0.0, deviation=1.0):
    """Logits 0 for action 3 and the standardised feature for action 8."""
    layer = nn.Linear(1, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0], [1.0]]))
        layer.bias.zero_()
    return LinearHead(mean=torch.tensor([mean]), deviation=torch.tensor([deviation]), layer=layer, classes=torch.tensor([3, 8]))


def test_windows_vote_by_their_softmax():
    """Share of action 8 in a window with feature f: 1 / (1 + exp(-f)).

    v0: 0.982 + 0.269 + 0.269 = 1.52 of 3, so 8, though two windows say 3. v1: 1.000 + 0.018 + 0.018 = 1.04 of 3, so 3, though the
    sum of its features, 10 - 4 - 4 = 2, says 8. v2: 3 in every window.
    """
    videos = videos_of((4, -1, -1), (10, -4, -4), (-1, -1, -1), actions=(8, 8, 3))
    head = head_of()
    assert [guess.predicted for guess in head.predict(videos)] == [8, 3, 3]
    assert [(guess.id, guess.action) for guess in head.predict(videos)] == [("v0", 8), ("v1", 8), ("v2", 3)]
    assert accuracy(head.predict(videos)) == pytest.approx(2 / 3)
    assert head.clip_accuracy(videos) == pytest.approx(5 / 9)  # windows right: 1, 1 and 3


def test_features_are_standardised_by_the_head_before_they_are_judged():
    """(5 - 2) / 4 = 0.75 and (1 - 2) / 4 = -0.25."""
    logits = head_of(mean=2.0, deviation=4.0).logits(videos_of((5, 1), actions=(8,)))
    assert logits[0].tolist() == [[0, 0.75], [0, -0.25]]


def test_a_score_of_three_videos():
    """v0 and v1 as the training has them, v2 labelled against it. Windows: v0 two of two right, v1 one of two, v2 none of two.

    The right window of v1 is 3 and the other -1 from the border, so the video is right.
    """
    train = videos_of((-1, -1), (1, 1), actions=(0, 1))
    test = videos_of((-1, -1), (3, -1), (1, 1), actions=(0, 1, 0))
    score = fit_head(train, test, HeadSettings(num_epochs=100, learning_rate=0.1), standardise=False)
    assert (score.train_accuracy, score.clip_accuracy) == (1, pytest.approx(3 / 6))
    assert score.video_accuracy == pytest.approx(2 / 3)
    assert score.accuracy_over({"v1", "v2"}) == pytest.approx(1 / 2)
    assert score.accuracy_over({"elsewhere"}) is None


def test_a_head_is_trained_as_its_settings_say():
    """The slow twin of AdamW, window by window in the order that the seed draws anew for every epoch, with gradients by hand.

    Of cross-entropy after softmax shares p: (p - one_hot) x for the weights, p - one_hot for the biases.
    """
    settings = HeadSettings(num_epochs=3, batch_size=1, learning_rate=0.1, weight_decay=0.5, seed=3)
    train = videos_of((0.0, 2.0), (3.0, -1.0), actions=(4, 9))
    windows, targets = [0.0, 2.0, 3.0, -1.0], [0, 0, 1, 1]
    start = build_seeded(lambda: nn.Linear(1, 2), 3)
    values = torch.cat([start.weight.detach(), start.bias.detach().unsqueeze(1)], dim=1).double()
    first, second, step = torch.zeros(2, 2).double(), torch.zeros(2, 2).double(), 0
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        for window in torch.randperm(4, generator=generator).tolist():
            inputs = torch.tensor([windows[window], 1.0]).double()
            error = (values @ inputs).softmax(dim=0)
            error[targets[window]] -= 1
            gradient, step = torch.outer(error, inputs), step + 1
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            values = values * (1 - 0.1 * 0.5)
            values = values - 0.1 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    layer = train_head(train, settings, standardise=False).layer
    found = torch.cat([layer.weight, layer.bias.unsqueeze(1)], dim=1)
    assert torch.allclose(found.double(), values, atol=1e-4)
