"""What every encoder promises, as a suite to inherit."""

import copy
from collections.abc import Callable

import pytest
import torch
from jaxtyping import Float32
from torch import Tensor

from cross4d_cache.errors import SettingsError
from cross4d_cache.testing.randomness import global_generators_untouched
from cross4d_train.encoders import configure_encoder, outline_encoder
from cross4d_train.encoders.encoder import Encoder, Tokens

Points = Float32[Tensor, "batch frame point 3"]


class EncoderContract:
    """Inherit it and override the fixture `encoder`, which gives an encoder in a small configuration.

        class TestMine(EncoderContract):
            @pytest.fixture
            def encoder(self):
                return Mine(MineConfig(width=16))

    Every test has it made again as training does: from its class and its `config`, with weights drawn by a seed. So the suite says
    nothing of weights that the fixture brings. Its clips have 4 frames of 64 points, about 3 m away.

    No suite can tell whether an encoder is the one that was published: compare with its authors' code, and count its parameters.
    """

    @pytest.fixture
    def encoder(self) -> Encoder:
        """To be overridden: an encoder in a small configuration."""
        raise NotImplementedError(f"{type(self).__name__} has to override the fixture `encoder`: an encoder in a small configuration")

    @pytest.fixture
    def made(self, encoder: Encoder) -> Callable[[int], Encoder]:
        """Makes the encoder with the weights of a seed, as training does."""
        kind = type(encoder)

        def make(seed: int) -> Encoder:
            try:
                return configure_encoder(kind, encoder.config, seed)
            except TypeError as error:
                raise AssertionError(f"{kind.__name__}(config) makes an encoder whose weights a seed can draw: {error}") from error

        return make

    @pytest.fixture
    def student(self, made: Callable[[int], Encoder]) -> Encoder:
        """The encoder as training makes it."""
        return made(3)

    @pytest.fixture
    def points(self) -> Points:
        """Three clips of random points, metres."""
        return torch.randn(3, 4, 64, 3, generator=torch.Generator().manual_seed(0)) * 0.5 + torch.tensor([1.0, 0.0, 3.0])

    @pytest.fixture
    def tokens(self, student: Encoder, points: Points) -> Tokens:
        """What the encoder says of them."""
        tokens = student(points)
        assert isinstance(tokens, Tokens), f"an encoder gives Tokens(features=..., centroids=..., frame=...); found {type(tokens)}"
        return tokens

    def test_shapes_and_types_agree(self, student: Encoder, points: Points, tokens: Tokens) -> None:
        """Float32 features of `channels`, a centroid and a frame for each token."""
        batch, count = len(points), tokens.frame.shape[1]
        for name, values, shape, kind in (
            ("features", tokens.features, (batch, count, student.channels), torch.float32),
            ("centroids", tokens.centroids, (batch, count, 3), torch.float32),
            ("frame", tokens.frame, (batch, count), torch.int64),
        ):
            assert tuple(values.shape) == shape, f"{name} are of shape {shape} for channels={student.channels}; found {tuple(values.shape)}"
            assert values.dtype == kind, f"{name} are {kind}; found {values.dtype}"

    def test_centroids_are_points_of_their_frame(self, points: Points, tokens: Tokens) -> None:
        """Exactly, in the coordinates that came in: targets are looked up there."""
        assert 0 <= int(tokens.frame.min()) <= int(tokens.frame.max()) < points.shape[1], (
            f"frames are 0 to 3; found {tokens.frame.unique()}"
        )
        for clip in range(len(points)):
            for centroid, frame in zip(tokens.centroids[clip], tokens.frame[clip], strict=True):
                found = bool((points[clip, frame] == centroid).all(dim=-1).any())
                assert found, f"centroids are input points of their frame; {centroid.tolist()} is no point of frame {int(frame)}"

    def test_frames_with_tokens_are_evenly_spaced_from_the_first_and_have_equally_many(self, points: Points, tokens: Tokens) -> None:
        """The same frames in every clip, in their order."""
        frames, counts = tokens.frame[0].unique(return_counts=True)
        stride = -(-points.shape[1] // len(frames))
        expected = list(range(0, points.shape[1], stride))
        assert frames.tolist() == expected, f"frames with tokens are evenly spaced from the first; found {frames.tolist()}"
        assert len(counts.unique()) == 1, f"frames have equally many tokens; found {counts.tolist()}"
        assert bool((tokens.frame == tokens.frame[0]).all()), "the frames of tokens are the same in every clip"
        assert bool((tokens.frame.diff() >= 0).all()), "tokens come frame after frame"

    def test_same_twice(self, student: Encoder, points: Points, tokens: Tokens) -> None:
        """Equal clips have equal tokens, in training and in evaluation, and nothing is drawn."""
        with global_generators_untouched("an encoder"):
            again, evaluating = student(points).features, student.eval()(points).features
        assert torch.equal(again, tokens.features), "equal clips have equal tokens; they differ the second time"
        assert torch.equal(evaluating, tokens.features), "tokens are the same in training and in evaluation; they differ"

    def test_seed_decides_weights_and_leaves_global_state_alone(self, made: Callable[[int], Encoder], student: Encoder) -> None:
        """Equal seeds give equal weights whatever was drawn in the process before, other seeds others.

        Seeds draw the weights of torch's layers; a parameter of the encoder's own has to begin as zeros or another constant.
        """
        with global_generators_untouched("making an encoder"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            again, other = made(3), made(4)
        pairs = list(zip(student.named_parameters(), again.parameters(), other.parameters(), strict=True))
        unequal = [name for (name, mine), same, _ in pairs if not torch.equal(mine, same)]
        assert not unequal, f"equal seeds give equal weights; unequal: {', '.join(unequal)}"
        assert any(not torch.equal(mine, different) for (_, mine), _, different in pairs), (
            "another seed gives other weights; they are equal"
        )

    def test_the_configuration_makes_it_again(self, encoder: Encoder, student: Encoder) -> None:
        """Checkpoints record `config` as JSON, and compare weights with an outline that has no numbers."""
        config = type(encoder).Config.from_json(encoder.config.model_dump_json())
        assert config == encoder.config, f"the configuration is another after JSON: {config}, not {encoder.config}"
        shapes, expected = (
            {name: item.shape for name, item in of.state_dict().items()} for of in (outline_encoder(type(encoder), config), encoder)
        )
        assert shapes == expected, f"class and configuration make other weights: {sorted(shapes.items() ^ expected.items())}"

    def test_weights_are_all_there_is(self, made: Callable[[int], Encoder], student: Encoder, points: Points, tokens: Tokens) -> None:
        """Another one that gets its weights, and a copy of it, have the same tokens."""
        other = made(4)
        other.load_state_dict(student.state_dict())
        assert torch.equal(other(points).features, tokens.features), (
            "state_dict() has all that decides tokens; with its weights they differ"
        )
        assert torch.equal(copy.deepcopy(student)(points).features, tokens.features), "a copy has the same tokens; they differ"

    def test_clips_do_not_see_each_other(self, student: Encoder, points: Points, tokens: Tokens) -> None:
        """Tokens of a clip are the same in another order of the batch, and alone."""
        turned = student(points.flip(0))
        assert torch.allclose(turned.features.flip(0), tokens.features, atol=1e-5), "features depend on the order of the batch"
        assert torch.equal(turned.centroids.flip(0), tokens.centroids), "centroids depend on the order of the batch"
        assert torch.allclose(student(points[1:2]).features, tokens.features[1:2], atol=1e-5), "features depend on the rest of the batch"

    def test_any_order_of_points_gives_finite_tokens_in_place(self, student: Encoder, points: Points) -> None:
        """Points of a frame have no order."""
        order = torch.randperm(points.shape[2], generator=torch.Generator().manual_seed(1))
        shuffled = student(points[:, :, order])
        assert bool(shuffled.features.isfinite().all()), "features are finite; found NaN or infinity"
        there = (shuffled.centroids.unsqueeze(2) == points.flatten(1, 2).unsqueeze(1)).all(dim=-1).any(dim=-1)
        assert bool(there.all()), f"centroids are input points; {int((~there).sum())} are not"

    def test_untrained_features_are_of_order_one(self, tokens: Tokens) -> None:
        """So that an untrained encoder can be evaluated, and trains from the first step."""
        deviation = tokens.features.std().item()
        assert 0.3 < deviation < 3, f"untrained features have a deviation of 0.3 to 3; found {deviation:.3g}"

    def test_time_matters(self, student: Encoder, points: Points) -> None:
        """A clip that is played backwards has other mean features."""
        same = torch.allclose(student(points.flip(1)).features.mean(1), student(points).features.mean(1), atol=1e-3)
        assert not same, "a clip that is played backwards has the same mean features"

    def test_scale_matters(self, student: Encoder, points: Points) -> None:
        """A body a fifth of the size has other mean features."""
        same = torch.allclose(student(points * 0.2).features.mean(1), student(points).features.mean(1), atol=1e-2)
        assert not same, "a clip of a fifth of the size has the same mean features"

    def test_place_of_the_sensor_does_not_matter(self, student: Encoder, points: Points) -> None:
        """Points that are all moved alike have the same features: they may be relative to the clip, not to the origin."""
        moved = student(points + torch.tensor([0.5, -0.25, 1.0])).features
        apart = (moved - student(points).features).abs().max().item()
        assert torch.allclose(moved, student(points).features, atol=1e-3), (
            f"a clip that is moved has the same features; they differ by {apart:.3g}"
        )

    @pytest.mark.parametrize(("num_frames", "num_points", "setting"), [(4, 3, "clips.num_points"), (1, 64, "clips.num_frames")])
    def test_clips_that_are_too_small_are_a_users_error(self, student: Encoder, num_frames: int, num_points: int, setting: str) -> None:
        """An encoder takes three points a frame and a single frame, or says which setting is to be raised."""
        clip = torch.zeros(1, num_frames, num_points, 3)
        try:
            hint, finite = None, bool(student(clip).features.isfinite().all())
        except SettingsError as error:
            hint, finite = str(error.hint), True
        assert finite, f"features of {num_frames} frames of {num_points} points are finite"
        assert hint is None or f"raise `{setting}`" in hint, f"the hint says: raise `{setting}`; found {hint}"

    def test_bfloat16_autocast_leaves_coordinates_alone(self, student: Encoder, points: Points, tokens: Tokens) -> None:
        """On a GPU the network computes in bfloat16: centroids stay exact, and features nearly what they were."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = student(points)
        assert torch.equal(mixed.centroids, tokens.centroids), "centroids are the same under autocast; they differ"
        apart = (mixed.features.float() - tokens.features).abs().max().item()
        assert torch.allclose(mixed.features.float(), tokens.features, atol=0.2), f"under autocast features differ by {apart:.3g}"

    def test_coinciding_points_give_finite_gradients(self, student: Encoder) -> None:
        """Where all points are one, distances are zero and have no direction."""
        student(torch.ones(1, 4, 64, 3)).features.square().sum().backward()
        wrong = [name for name, item in student.named_parameters() if item.grad is None or not bool(item.grad.isfinite().all())]
        assert not wrong, f"gradients of coinciding points are finite; not so: {', '.join(wrong)}"

    def test_gradients_reach_every_parameter(self, student: Encoder, points: Points) -> None:
        """No parameter is there for nothing."""
        features = student(points).features
        (features * torch.randn(features.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
        without = [name for name, item in student.named_parameters() if item.grad is None or not item.grad.abs().sum() > 0]
        assert not without, f"every parameter has a gradient; without one: {', '.join(without)}"
