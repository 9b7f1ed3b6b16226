"""What every encoder must satisfy; a new one inherits this suite and names itself."""

import pytest
import torch

from cross4d_cache.errors import SettingsError
from cross4d_train.encoders import build_encoder
from cross4d_train.encoders.encoder import Encoder, Tokens


class EncoderContract:
    name: str
    size = "tiny"

    @pytest.fixture
    def encoder(self) -> Encoder:
        return build_encoder(self.name, self.size, seed=3)

    @pytest.fixture
    def points(self) -> torch.Tensor:
        return torch.randn(3, 4, 64, 3, generator=torch.Generator().manual_seed(0)) * 0.5 + torch.tensor([1.0, 0.0, 3.0])

    @pytest.fixture
    def tokens(self, encoder: Encoder, points: torch.Tensor) -> Tokens:
        return encoder(points)

    def test_shapes_agree(self, encoder: Encoder, points: torch.Tensor, tokens: Tokens) -> None:
        batch, count, channels = tokens.features.shape
        assert (batch, channels) == (len(points), encoder.channels)
        assert tokens.centroids.shape == (batch, count, 3)
        assert tokens.frame.shape == (batch, count)

    def test_centroids_are_points_of_their_frame(self, points: torch.Tensor, tokens: Tokens) -> None:
        for clip in range(len(points)):
            for centroid, frame in zip(tokens.centroids[clip], tokens.frame[clip], strict=True):
                assert (points[clip, frame] == centroid).all(dim=-1).any()

    def test_frames_with_tokens_are_evenly_spaced_from_the_first_and_have_equally_many(self, points: torch.Tensor, tokens: Tokens) -> None:
        frames, counts = tokens.frame[0].unique(return_counts=True)
        stride = -(-points.shape[1] // len(frames))
        assert frames.tolist() == list(range(0, points.shape[1], stride))
        assert len(counts.unique()) == 1
        assert (tokens.frame == tokens.frame[0]).all()
        assert (tokens.frame.diff() >= 0).all()

    def test_same_twice(self, encoder: Encoder, points: torch.Tensor, tokens: Tokens) -> None:
        assert torch.equal(encoder(points).features, tokens.features)

    def test_seed_decides_weights_and_leaves_global_state_alone(self, encoder: Encoder) -> None:
        state = torch.random.get_rng_state()
        again, other = build_encoder(self.name, self.size, seed=3), build_encoder(self.name, self.size, seed=4)
        assert torch.equal(torch.random.get_rng_state(), state)
        pairs = list(zip(encoder.parameters(), again.parameters(), other.parameters(), strict=True))
        assert all(torch.equal(mine, same) for mine, same, _ in pairs)
        assert any(not torch.equal(mine, different) for mine, _, different in pairs)

    def test_clips_do_not_see_each_other(self, encoder: Encoder, points: torch.Tensor, tokens: Tokens) -> None:
        turned = encoder(points.flip(0))
        assert torch.allclose(turned.features.flip(0), tokens.features, atol=1e-5)
        assert torch.equal(turned.centroids.flip(0), tokens.centroids)
        assert torch.allclose(encoder(points[1:2]).features, tokens.features[1:2], atol=1e-5)

    def test_any_order_of_points_gives_finite_tokens_in_place(self, encoder: Encoder, points: torch.Tensor) -> None:
        order = torch.randperm(points.shape[2], generator=torch.Generator().manual_seed(1))
        shuffled = encoder(points[:, :, order])
        assert shuffled.features.isfinite().all()
        assert (shuffled.centroids.unsqueeze(2) == points.flatten(1, 2).unsqueeze(1)).all(dim=-1).any(dim=-1).all()

    def test_untrained_features_are_of_order_one(self, tokens: Tokens) -> None:
        assert 0.3 < tokens.features.std() < 3

    def test_time_matters(self, encoder: Encoder, points: torch.Tensor) -> None:
        assert not torch.allclose(encoder(points.flip(1)).features.mean(1), encoder(points).features.mean(1), atol=1e-3)

    def test_scale_matters(self, encoder: Encoder, points: torch.Tensor) -> None:
        assert not torch.allclose(encoder(points * 0.2).features.mean(1), encoder(points).features.mean(1), atol=1e-2)

    def test_place_of_the_sensor_does_not_matter(self, encoder: Encoder, points: torch.Tensor) -> None:
        moved = encoder(points + torch.tensor([0.5, -0.25, 1.0]))
        assert torch.allclose(moved.features, encoder(points).features, atol=1e-3)

    def test_too_few_points_is_a_users_error(self, encoder: Encoder) -> None:
        with pytest.raises(SettingsError, match=r"raise `clips\.num_points`"):
            encoder(torch.zeros(1, 4, 3, 3))

    def test_bfloat16_autocast_leaves_coordinates_alone(self, encoder: Encoder, points: torch.Tensor, tokens: Tokens) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = encoder(points)
        assert torch.equal(mixed.centroids, tokens.centroids)
        assert torch.allclose(mixed.features.float(), tokens.features, atol=0.2)

    def test_coinciding_points_give_finite_gradients(self, encoder: Encoder) -> None:
        encoder.zero_grad()
        encoder(torch.ones(1, 4, 64, 3)).features.square().sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())

    def test_gradients_reach_every_parameter(self, encoder: Encoder, points: torch.Tensor) -> None:
        encoder.zero_grad()
        features = encoder(points).features
        (features * torch.randn(features.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
        for name, parameter in encoder.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
