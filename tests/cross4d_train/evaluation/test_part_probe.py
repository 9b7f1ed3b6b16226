import math

import pytest
import torch

from cross4d_cache.errors import SettingsError
from cross4d_cache.types import UNLABELLED_PART
from cross4d_train.clips import ClipSettings, even_requests
from cross4d_train.dataset import ClipDataset
from cross4d_train.encoders import build_encoder
from cross4d_train.evaluation import part_probe
from cross4d_train.evaluation.part_probe import PartSettings, TokenFeatures, extract_tokens, join_tokens, mean_iou, score_parts

CLIPS = ClipSettings(num_frames=3, num_points=48, stride=1)
SETTINGS = PartSettings(clips=CLIPS, budgets=(40, 12), num_draws=3)
CPU = torch.device("cpu")


def make_tokens(count, seed, *, separable):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=generator)
    centres = 8 * torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    features = torch.randn(count, 16, generator=generator) + (centres[labels] if separable else 0)
    return TokenFeatures(features=features, parts=labels)


@pytest.mark.parametrize("num_present", [5, 3])
def test_mean_iou_is_that_of_a_plain_loop(num_present):
    """Parts that do not occur are not averaged over, even if they are guessed."""
    generator = torch.Generator().manual_seed(num_present)
    truth = torch.randint(num_present, (200,), generator=generator)
    guessed = torch.where(torch.rand(200, generator=generator) < 0.6, truth, torch.randint(5, (200,), generator=generator))
    shares = []
    for part in range(num_present):
        both = sum(a == b == part for a, b in zip(truth.tolist(), guessed.tolist(), strict=True))
        either = sum(part in pair for pair in zip(truth.tolist(), guessed.tolist(), strict=True))
        shares.append(both / either)
    assert mean_iou(guessed, truth, 5) == pytest.approx(sum(shares) / len(shares))
    assert mean_iou(truth, truth, 5) == 1
    assert mean_iou((truth + 1) % num_present, truth, 5) == 0


def test_separable_parts_are_found():
    score = score_parts(make_tokens(200, 1, separable=True), make_tokens(100, 2, separable=True), SETTINGS)
    assert (score.all, score.budgets[40]) == (1, 1)
    assert (score.num_train_tokens, score.num_test_tokens) == (200, 100)


def test_parts_that_features_do_not_tell_stay_at_chance():
    """Guessing one of four equal parts at random overlaps in a seventh of their union."""
    score = score_parts(make_tokens(400, 1, separable=False), make_tokens(1000, 2, separable=False), SETTINGS)
    assert all(0.08 < value < 0.2 for value in (score.all, *score.budgets.values()))


def test_every_budget_is_drawn_and_nothing_is_left_to_chance(monkeypatch):
    sizes, fit = [], part_probe._fit

    def counting(features, *others):
        sizes.append(len(features))
        return fit(features, *others)

    monkeypatch.setattr(part_probe, "_fit", counting)
    train, test = make_tokens(100, 1, separable=False), make_tokens(100, 2, separable=False)
    first = score_parts(train, test, SETTINGS)
    assert sorted(sizes) == [12, 12, 12, 40, 40, 40, 100]
    assert score_parts(train, test, SETTINGS) == first
    assert score_parts(train, test, SETTINGS.model_copy(update={"seed": 1})).budgets != first.budgets


def test_a_budget_beyond_all_tokens_takes_all():
    score = score_parts(make_tokens(30, 1, separable=False), make_tokens(30, 2, separable=False), SETTINGS)
    assert score.budgets[40] == pytest.approx(score.all, abs=0.05)


@pytest.mark.parametrize("batch_size", [2, 100])
def test_tokens_take_the_part_of_their_input_point(store, batch_size):
    """The centroids of this encoder are input points, so a token's part is that of the stored point at its place."""
    encoder, dataset = build_encoder("point4d", "tiny"), ClipDataset(store, CLIPS, labels=True)
    found = join_tokens(list(extract_tokens(encoder, dataset, (0, 3, 5), SETTINGS, batch_size=batch_size, device=CPU)))
    expected_features, expected = [], []
    for request in even_requests(CLIPS, dataset.cache.sequences, (0, 3, 5), num_windows=1, seed=0):
        clip = dataset[request]
        tokens = encoder(torch.from_numpy(clip.points)[None])
        expected_features.append(tokens.features[0].detach())
        for frame, centroid in zip(tokens.frame[0].tolist(), tokens.centroids[0].tolist(), strict=True):
            where = [point.tolist() for point in clip.points[frame]].index(centroid)
            expected.append(int(clip.part_labels[frame, where]))
    assert found.parts.tolist() == expected
    assert set(expected) == {0, 1, 2}
    assert torch.allclose(found.features, torch.cat(expected_features), atol=1e-5)


def test_a_store_without_part_labels_is_refused(small_store):
    dataset = ClipDataset(small_store, CLIPS, labels=True)
    with pytest.raises(SettingsError, match="no part labels"):
        next(extract_tokens(build_encoder("point4d", "tiny"), dataset, (0,), SETTINGS, batch_size=4, device=CPU))


def test_tokens_without_a_part_do_not_count():
    train, test = make_tokens(60, 0, separable=True), make_tokens(30, 1, separable=True)
    expected = score_parts(train, test, SETTINGS)
    unknown = TokenFeatures(features=torch.full((7, train.features.shape[1]), 50.0), parts=torch.full((7,), UNLABELLED_PART))
    assert score_parts(join_tokens([train, unknown]), join_tokens([unknown, test]), SETTINGS) == expected


def on_a_line(*places, parts):
    """Tokens of one channel."""
    return TokenFeatures(features=torch.tensor([[float(place)] for place in places]), parts=torch.tensor(parts))


def test_mean_iou_by_hand():
    """Part 0: 2 of 3 guessed, and nothing else called so: 2/3. Part 1: 1 of 1, and one more called so: 1/2. Part 2 is guessed once where
    there is none; it is not averaged over, but the guess is missed above: part 3 has 0 of 1.
    """
    truth, guessed = torch.tensor([0, 0, 0, 1, 3]), torch.tensor([0, 0, 1, 1, 2])
    assert mean_iou(guessed, truth, 4) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_tokens_of_three_videos_by_hand():
    """Training tokens lie at 8 and 12. Of the test tokens two at 8 are of part 0, at 12 one is of part 0 and one of part 1.

    So part 0 has 2 of 3, part 1 has 1 of 2. The one token without a part counts nowhere, wherever it lies.
    """
    train = on_a_line(8, 8, 12, 12, 500, parts=[0, 0, 1, 1, UNLABELLED_PART])
    test = on_a_line(8, 8, 12, 12, 8, parts=[0, 0, 0, 1, UNLABELLED_PART])
    score = score_parts(train, test, SETTINGS)
    assert (score.num_train_tokens, score.num_test_tokens) == (4, 4)
    assert score.all == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_the_classifier_minimises_cross_entropy_and_half_the_squared_weights():
    """Tokens at -1 and 1 of two parts, weights -w and w. The loss is log(1 + exp(-2w)) + decay / 2 * 2 * w^2; its derivative
    -2 / (1 + exp(2w)) + 2 * decay * w is zero at w = 1 if decay = 1 / (1 + exp(2)).
    """
    train = on_a_line(-1, 1, parts=[0, 1])
    classifier = part_probe._fit(train.features, train.parts, 2, 1 / (1 + math.exp(2)))
    assert classifier.weight.flatten().tolist() == pytest.approx([-1, 1], abs=1e-3)
    assert classifier.bias.tolist() == pytest.approx([0, 0], abs=1e-3)


def test_budgets_are_standardised_by_all_training_tokens(monkeypatch):
    """Tokens 0, 2, 4 and 10: mean 4, deviation sqrt((16 + 4 + 0 + 36) / 4); a budget of two sees two of the same four numbers."""
    seen, fit = [], part_probe._fit
    monkeypatch.setattr(part_probe, "_fit", lambda features, *others: (seen.append(features.flatten().tolist()), fit(features, *others))[1])
    tokens = on_a_line(0, 2, 4, 10, parts=[0, 0, 1, 1])
    score_parts(tokens, on_a_line(100, 300, parts=[0, 1]), PartSettings(clips=CLIPS, budgets=(2,), num_draws=2))
    expected = {round((place - 4) / 14**0.5, 4) for place in (0, 2, 4, 10)}
    assert [len(drawn) for drawn in seen] == [2, 2, 4]
    assert all({round(value, 4) for value in drawn} <= expected for drawn in seen)
