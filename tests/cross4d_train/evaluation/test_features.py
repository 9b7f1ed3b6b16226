import pytest
import torch

from cross4d_train.clips import ClipSettings
from cross4d_train.data import ClipDataset
from cross4d_train.encoders import build_encoder
from cross4d_train.evaluation.features import extract_features, join_features

CPU = torch.device("cpu")


@pytest.fixture
def dataset(store):
    return ClipDataset(store, ClipSettings(num_frames=3, num_points=48, stride=1), targets=False)


def void(_):
    """A hook that returns something replaces the output."""


def extract(encoder, dataset, batch_size):
    options = {"num_windows": 2, "seed": 0, "device": CPU}
    return join_features(list(extract_features(encoder, dataset, range(5), batch_size=batch_size, **options)))


def test_features_of_every_video_in_order(dataset):
    videos = extract(build_encoder("point4d", "tiny"), dataset, 4)
    assert videos.features.shape == (5, 2, 32)
    assert videos.ids == ("s0", "s1", "s2", "s3", "s4")
    assert videos.actions.tolist() == [0, 1, 0, 1, 0]


def test_batches_do_not_matter(dataset):
    encoder = build_encoder("point4d", "tiny")
    assert torch.allclose(extract(encoder, dataset, 1).features, extract(encoder, dataset, 100).features, atol=1e-5)


def test_an_encoder_that_changes_is_caught(dataset):
    encoder = build_encoder("point4d", "tiny")
    encoder.register_forward_hook(lambda module, *_: void(module.norm.bias.add_(1)))
    with pytest.raises(RuntimeError, match="changed during"):
        extract(encoder, dataset, 4)


def test_a_buffer_that_changes_is_caught(dataset):
    encoder = build_encoder("point4d", "tiny")
    encoder.register_buffer("count", torch.zeros(1))
    encoder.register_forward_hook(lambda module, *_: void(module.count.add_(1)))
    with pytest.raises(RuntimeError, match="changed during"):
        extract(encoder, dataset, 4)
