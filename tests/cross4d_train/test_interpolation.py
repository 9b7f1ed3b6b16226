import torch
from torch import nn

from cross4d_train.encoders.encoder import Tokens
from cross4d_train.interpolation import spread


def make_tokens(seed: int) -> tuple[Tokens, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centroids = torch.rand(2, 3 * 5, 3, generator=generator)
    features = torch.rand(2, 3 * 5, 4, generator=generator)
    frame = torch.arange(3).repeat_interleave(5).expand(2, -1)
    return Tokens(features=features, centroids=centroids, frame=frame), torch.rand(2, 3, 50, 3, generator=generator)


def test_point_features_equal_the_slow_reference() -> None:
    tokens, points = make_tokens(0)
    found = spread(tokens.features, tokens, points)
    for batch, frame, point in ((0, 0, 0), (0, 2, 17), (1, 1, 49)):
        own = slice(frame * 5, frame * 5 + 5)
        distances = (tokens.centroids[batch, own] - points[batch, frame, point]).norm(dim=-1)
        order = distances.argsort()[:3]
        weights = 1 / distances[order]
        expected = (tokens.features[batch, own][order] * weights[:, None]).sum(dim=0) / weights.sum()
        torch.testing.assert_close(found[batch, frame, point], expected)


def test_frames_without_tokens_take_those_of_the_nearest_frame_that_has_some() -> None:
    """Tokens of frames 0, 2 and 4 of six."""
    tokens, _ = make_tokens(3)
    strided = Tokens(features=tokens.features, centroids=tokens.centroids, frame=2 * tokens.frame)
    points = torch.rand(2, 6, 7, 3, generator=torch.Generator().manual_seed(4))
    expected = spread(tokens.features, tokens, points[:, [0, 2, 4]])
    found = spread(strided.features, strided, points)
    torch.testing.assert_close(found[:, ::2], expected)
    torch.testing.assert_close(found[:, 1::2], spread(tokens.features, tokens, points[:, [1, 3, 5]]))  # of two as near the earlier


def test_a_point_on_a_token_takes_its_features() -> None:
    tokens, _ = make_tokens(1)
    points = tokens.centroids.reshape(2, 3, 5, 3)
    torch.testing.assert_close(spread(tokens.features, tokens, points).reshape(2, 15, 4), tokens.features, atol=1e-4, rtol=1e-3)


def test_a_linear_map_may_come_before_or_after_and_carries_gradients() -> None:
    tokens, points = make_tokens(2)
    layer = nn.Linear(4, 3)
    before = spread(layer(tokens.features), tokens, points)
    torch.testing.assert_close(before, layer(spread(tokens.features, tokens, points)))
    before.sum().backward()
    assert layer.weight.grad.abs().sum() > 0
