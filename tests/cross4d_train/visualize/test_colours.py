import torch

from cross4d_train.encoders.encoder import Tokens
from cross4d_train.visualize.colours import point_features, principal_colours


def make_tokens(seed: int) -> tuple[Tokens, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centroids = torch.rand(2, 3 * 5, 3, generator=generator)
    features = torch.rand(2, 3 * 5, 4, generator=generator)
    frame = torch.arange(3).repeat_interleave(5).expand(2, -1)
    return Tokens(features=features, centroids=centroids, frame=frame), torch.rand(2, 3, 50, 3, generator=generator)


def test_point_features_equal_the_slow_reference() -> None:
    tokens, points = make_tokens(0)
    found = point_features(tokens, points)
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
    expected = point_features(tokens, points[:, [0, 2, 4]])
    found = point_features(strided, points)
    torch.testing.assert_close(found[:, ::2], expected)
    torch.testing.assert_close(found[:, 1::2], point_features(tokens, points[:, [1, 3, 5]]))  # of two as near the earlier


def test_a_point_on_a_token_takes_its_features() -> None:
    tokens, _ = make_tokens(1)
    points = tokens.centroids.reshape(2, 3, 5, 3)
    torch.testing.assert_close(point_features(tokens, points).reshape(2, 15, 4), tokens.features, atol=1e-4, rtol=1e-3)


def test_equal_features_get_equal_colours_and_groups_differ() -> None:
    group = torch.eye(4).repeat_interleave(10, dim=0)
    colours = principal_colours(group + 1e-4 * torch.rand(40, 4, generator=torch.Generator().manual_seed(0)))
    assert ((colours >= 0) & (colours <= 1)).all()
    means = colours.reshape(4, 10, 3).mean(dim=1)
    assert (colours.reshape(4, 10, 3).std(dim=1) < 0.01).all()
    assert (torch.pdist(means) > 0.3).all()


def test_colours_do_not_depend_on_the_sign_of_components() -> None:
    features = torch.rand(30, 6, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(principal_colours(features), principal_colours(features.flip(0)).flip(0), atol=1e-4, rtol=1e-4)
