import pytest
import torch

from cross4d_train.clips import ClipSettings
from cross4d_train.data import BatchLoader
from cross4d_train.dataset import ClipDataset
from cross4d_train.encoders import build_encoder
from cross4d_train.evaluation import features
from cross4d_train.evaluation.base import EvaluationSettings
from cross4d_train.evaluation.features import extract_features, join_features, pool

CLIPS = ClipSettings(num_frames=3, num_points=48, stride=1)
SETTINGS = EvaluationSettings(clips=CLIPS, num_windows=2)


@pytest.fixture
def dataset(store):
    return ClipDataset(store, CLIPS, targets=False)


def features_of(encoder, dataset, chosen, **options):
    return extract_features(encoder, BatchLoader(dataset), chosen, SETTINGS, torch.device("cpu"), **options)


def void(_):
    """A hook that returns something replaces the output."""


def extract(encoder, dataset, **options):
    return join_features(list(features_of(encoder, dataset, range(5), **options)))


def test_features_of_every_video_in_order(dataset):
    videos = extract(build_encoder("point4d", "tiny"), dataset)
    assert videos.features.shape == (5, 2, 32)
    assert videos.ids == ("s0", "s1", "s2", "s3", "s4")
    assert videos.actions.tolist() == [0, 1, 0, 1, 0]


def test_batches_do_not_matter(dataset, monkeypatch):
    encoder = build_encoder("point4d", "tiny")
    found = []
    for size in (1, 100):
        monkeypatch.setattr(features, "BATCH", size)
        found.append(extract(encoder, dataset).features)
    assert torch.allclose(*found, atol=1e-5)


def test_pooling():
    tokens = torch.tensor([[[1.0, 5.0], [3.0, 1.0]]])
    assert pool(tokens, "mean").tolist() == [[2, 3]]
    assert pool(tokens, "mean+max").tolist() == [[2, 3, 3, 5]]


def test_the_gradient_mode_of_whoever_iterates_is_left_alone(dataset):
    for _ in features_of(build_encoder("point4d", "tiny"), dataset, range(2)):
        assert torch.is_grad_enabled()


def test_an_encoder_that_changes_is_caught(dataset):
    encoder = build_encoder("point4d", "tiny")
    encoder.register_forward_hook(lambda module, *_: void(module.norm.bias.add_(1)))
    with pytest.raises(RuntimeError, match="changed during"):
        extract(encoder, dataset)


def test_a_buffer_that_changes_is_caught(dataset):
    encoder = build_encoder("point4d", "tiny")
    encoder.register_buffer("count", torch.zeros(1))
    encoder.register_forward_hook(lambda module, *_: void(module.count.add_(1)))
    with pytest.raises(RuntimeError, match="changed during"):
        extract(encoder, dataset)
