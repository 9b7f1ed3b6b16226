import pytest
import torch

from cross4d_cache.errors import SettingsError
from cross4d_train.encoders import build_encoder
from cross4d_train.encoders.point4d import SIZES
from tests.cross4d_train.encoders.contract import BuiltInEncoderContract


class TestPoint4D(BuiltInEncoderContract):
    name = "point4d"


def test_paper_size_has_64_tokens_a_frame():
    points = torch.randn(1, 24, 2048, 3, generator=torch.Generator().manual_seed(0)) * 0.4
    with torch.no_grad():
        tokens = build_encoder("point4d", "paper")(points)
    assert tokens.features.shape == (1, 1536, 256)
    assert torch.equal(tokens.frame[0].bincount(), torch.full((24,), 64))


def test_small_size_is_a_tenth():
    encoder = build_encoder("point4d", "small")
    assert sum(parameter.numel() for parameter in encoder.parameters()) == pytest.approx(0.3e6, rel=0.05)
    assert SIZES["small"].coarse.num_centroids == 32


def test_unknown_names_list_the_known_ones():
    with pytest.raises(SettingsError, match="point4d"):
        build_encoder("nonsense", "paper")
    with pytest.raises(SettingsError, match="paper, small, mini, tiny"):
        build_encoder("point4d", "huge")
