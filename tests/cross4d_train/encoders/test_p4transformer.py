import pytest
import torch
from torch import nn

from cross4d_cache.errors import SettingsError
from cross4d_train.encoders import build_encoder
from cross4d_train.encoders.grouping import farthest_points
from cross4d_train.encoders.p4transformer import MOST_PRODUCTS, P4Transformer, TubeMaximum
from tests.cross4d_train.encoders.contract import BuiltInEncoderContract


class TestP4Transformer(BuiltInEncoderContract):
    name = "p4transformer"


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_paper_size_has_the_parameters_of_the_paper():
    encoder = build_encoder("p4transformer", "paper")
    head = nn.Sequential(nn.LayerNorm(1024), nn.Linear(1024, 2048), nn.GELU(), nn.Linear(2048, 20))
    assert num_parameters(encoder) == 41_993_216
    assert num_parameters(encoder) + num_parameters(head) == pytest.approx(44.14e6, rel=1e-3)
    assert num_parameters(build_encoder("p4transformer", "paper-norm")) == 41_993_216 + 2048
    assert num_parameters(build_encoder("p4transformer", "ntu")) == pytest.approx(125.9e6, rel=1e-3)


def test_paper_size_has_64_tokens_in_every_other_frame():
    points = torch.randn(1, 24, 2048, 3, generator=torch.Generator().manual_seed(0)) * 0.4
    with torch.no_grad():
        tokens = build_encoder("p4transformer", "paper")(points)
    assert tokens.features.shape == (1, 768, 1024)
    assert tokens.frame[0].unique(return_counts=True)[1].tolist() == [64] * 12


def test_finer_tokens_are_twice_as_many():
    points = torch.randn(1, 2, 64, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert build_encoder("p4transformer", "paper-fine")(points).frame.numel() == 4


def reference_tubes(encoder: P4Transformer, points: torch.Tensor) -> torch.Tensor:
    """Token by token, neighbour by neighbour, in published units."""
    config, unit = encoder.config, encoder.config.metres_per_unit
    num_tokens = points.shape[2] // config.spatial_stride
    tubes = []
    for clip in points:
        for anchor in range(0, len(clip) - 1, 2):
            for token in farthest_points(clip[anchor : anchor + 1], num_tokens)[0]:
                centre, maps = clip[anchor, token], []
                for time in (-1, 0, 1):
                    frame = clip[max(anchor + time, 0)]
                    distances = (frame - centre).norm(dim=-1)
                    ball = (distances <= config.radius * unit).nonzero().flatten()[: config.num_neighbours]
                    if len(ball) == 0:
                        ball = distances.argmin(keepdim=True)
                    for point in frame[ball]:
                        maps.append(encoder.tube.weight @ torch.cat([(point - centre) / unit, torch.tensor([float(time)])]))
                tubes.append(torch.stack(maps).max(dim=0).values)
    return torch.stack(tubes).unflatten(0, (len(points), -1))


@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_tubes_match_the_reference(spread, monkeypatch):
    """In a dense and in a sparse cloud, where some balls are empty."""
    encoder = build_encoder("p4transformer", "tiny", seed=1)
    points = torch.randn(2, 4, 32, 3, generator=torch.Generator().manual_seed(0)) * spread + 2
    seen = {}
    monkeypatch.setattr(encoder.blocks, "forward", lambda tokens: seen.setdefault("tokens", tokens))
    monkeypatch.setattr(encoder.position, "forward", lambda place: torch.zeros(*place.shape[:2], encoder.channels))
    encoder(points)
    assert torch.allclose(seen["tokens"], reference_tubes(encoder, points), atol=1e-5)


def test_tube_maximum_and_its_gradient_match_the_reference(monkeypatch):
    monkeypatch.setitem(MOST_PRODUCTS, "cpu", 7 * 6 * 5)  # several chunks, the last one smaller
    generator = torch.Generator().manual_seed(0)
    groups = torch.randn(17, 6, 4, generator=generator)
    weight = torch.randn(5, 4, generator=generator, requires_grad=True)
    change = torch.randn(17, 5, generator=generator)
    expected = (groups @ weight.T).max(dim=1).values
    pooled = TubeMaximum.apply(groups, weight)
    assert torch.allclose(pooled, expected)
    mine, theirs = (torch.autograd.grad((value * change).sum(), weight)[0] for value in (pooled, expected))
    assert torch.allclose(mine, theirs, atol=1e-5)


def test_one_frame_is_too_few():
    with pytest.raises(SettingsError, match=r"(?s)clips of 1 frames.*at least 2"):
        build_encoder("p4transformer", "tiny")(torch.zeros(1, 1, 64, 3))
