"""An encoder that keeps its promises passes the suite; one that breaks a promise falls by the check of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from cross4d_cache.errors import SettingsError
from cross4d_cache.record import Record
from cross4d_train.encoders.encoder import Encoder, Tokens
from cross4d_train.encoders.place import places
from cross4d_train.testing import EncoderContract
from tests.falling import checks, falling, fixture

pytest_plugins = ("pytester",)


class Few(Encoder):
    """The first four points of each frame, about the middle of the clip, through two layers."""

    def __init__(self, config: Record | None = None) -> None:
        super().__init__(config)
        self.channels = 16
        self.layers = nn.Sequential(nn.Linear(4, 32), nn.GELU(), nn.Linear(32, 16), nn.LayerNorm(16))

    def forward(self, points):
        centroids = points[:, :, :4].flatten(1, 2)
        frame = torch.arange(points.shape[1]).repeat_interleave(len(centroids[0]) // points.shape[1]).expand(len(points), -1)
        return Tokens(features=self.layers(self.place(points, centroids, frame)), centroids=centroids, frame=frame)

    def place(self, points, centroids, frame):
        return places(points, centroids, frame)


class TestFew(EncoderContract):
    @pytest.fixture
    def encoder(self) -> Encoder:
        return Few()


def changed(**members: Any) -> dict[str, Any]:
    """The test class's fixture for a `Few` with other members."""
    return fixture("encoder", type("Few", (Few,), members))


def spoiled(change: Callable[[Few, Tokens], dict[str, Any]]) -> dict[str, Any]:
    """One whose tokens are changed."""

    def forward(self, points):
        tokens = Few.forward(self, points)
        return replace(tokens, **change(self, tokens))

    return changed(forward=forward)


def made(change: Callable[[Few], None]) -> dict[str, Any]:
    """One that has more members, and adds `extra` to its features if it is one of them."""

    def begin(self, config=None):
        Few.__init__(self, config)
        change(self)

    def forward(self, points):
        tokens = Few.forward(self, points)
        return replace(tokens, features=tokens.features + getattr(self, "extra", 0))

    return changed(__init__=begin, forward=forward)


def numbered(encoder: Few) -> None:
    Few.count = getattr(Few, "count", 0) + 1
    encoder.extra = float(Few.count)


def counting(encoder: Few, tokens: Tokens) -> dict[str, Any]:
    numbered(encoder)
    return {"features": tokens.features + encoder.extra}


def narrow(encoder: Few) -> None:
    encoder.channels = 8


def with_parameter(encoder: Few) -> None:
    encoder.extra = nn.Parameter(torch.randn(16))


def with_constant_layer(encoder: Few) -> None:
    encoder.layers = nn.Sequential(nn.LayerNorm(4), nn.AdaptiveAvgPool1d(16))


def with_unused_layer(encoder: Few) -> None:
    encoder.unused = nn.Linear(2, 2)


class Unrecorded(Few):
    """Its width is no part of its configuration."""

    def __init__(self, config: Record | None = None, width: int = 16) -> None:
        super().__init__(config)
        self.layers[0] = nn.Linear(4, 2 * width)
        self.layers[2] = nn.Linear(2 * width, 16)


class Impatient(Few):
    def forward(self, points):
        if points.shape[1] < 2 or points.shape[2] < 4:
            raise SettingsError("clips that are too small")
        return super().forward(points)


def rounded(self, tokens):
    return {"centroids": (tokens.centroids @ torch.eye(3)).float()}


def spread(self, tokens):
    """With the deviation of the tokens of a frame, whose gradient is infinite where they are equal."""
    by_frame = tokens.features.unflatten(1, (-1, 4))
    deviation = (by_frame - by_frame.mean(dim=2, keepdim=True)).square().sum(dim=2, keepdim=True).sqrt()
    return {"features": (by_frame + deviation).flatten(1, 2)}


def directions(self, points, centroids, frame):
    offsets = places(points, centroids, frame)
    return torch.cat([functional.normalize(offsets[..., :3], dim=-1), offsets[..., 3:]], dim=-1)


def timeless(self, points, centroids, frame):
    return functional.pad(places(points, centroids, frame)[..., :3], (0, 1))


def absolute(self, points, centroids, frame):
    return torch.cat([centroids, places(points, centroids, frame)[..., 3:]], dim=-1)


BROKEN = {
    "Narrow": ("shapes_and_types_agree", "channels=8", made(narrow)),
    "Double": ("shapes_and_types_agree", "float64", spoiled(lambda _, tokens: {"features": tokens.features.double()})),
    "Mean": ("centroids_are_points_of_their_frame", "is no point", spoiled(lambda _, tokens: {"centroids": tokens.centroids + 1e-6})),
    "Counted": ("centroids_are_points_of_their_frame", "frames are 0 to", spoiled(lambda _, tokens: {"frame": tokens.frame + 1})),
    "Late": (
        "frames_with_tokens_are_evenly_spaced_from_the_first_and_have_equally_many",
        "found [1, 2, 3]",
        spoiled(lambda _, tokens: {"frame": tokens.frame.clamp(min=1)}),
    ),
    "Uneven": (
        "frames_with_tokens_are_evenly_spaced_from_the_first_and_have_equally_many",
        "found [5, 3, 4, 4]",
        spoiled(lambda _, tokens: {"frame": torch.where(torch.arange(16) == 4, 0, tokens.frame)}),
    ),
    "Unsorted": (
        "frames_with_tokens_are_evenly_spaced_from_the_first_and_have_equally_many",
        "frame after frame",
        spoiled(lambda _, tokens: {"frame": tokens.frame.flip(1)}),
    ),
    "Drawing": ("same_twice", "torch", spoiled(lambda _, tokens: {"features": functional.dropout(tokens.features)})),
    "Training": ("same_twice", "in training and in", spoiled(lambda self, tokens: {"features": tokens.features * (1 + self.training)})),
    "Counting": (
        "same_twice",
        "the second time",
        spoiled(counting),
    ),
    "OwnParameter": ("seed_decides_weights_and_leaves_global_state_alone", "unequal: extra", made(with_parameter)),
    "Constant": ("seed_decides_weights_and_leaves_global_state_alone", "they are equal", made(with_constant_layer)),
    "Unrecorded": ("the_configuration_makes_it_again", "layers.0.weight", fixture("encoder", lambda: Unrecorded(width=24))),
    "Numbered": ("weights_are_all_there_is", "with its weights they differ", made(numbered)),
    "BatchNorm": (
        "clips_do_not_see_each_other",
        "rest of the batch",
        spoiled(lambda _, tokens: {"features": tokens.features - tokens.features.mean(dim=0)}),
    ),
    "Order": (
        "clips_do_not_see_each_other",
        "order of the batch",
        spoiled(lambda _, tokens: {"features": tokens.features * torch.arange(1, len(tokens.features) + 1)[:, None, None]}),
    ),
    "NaN": (
        "any_order_of_points_gives_finite_tokens_in_place",
        "finite",
        spoiled(lambda _, tokens: {"features": tokens.features * torch.nan}),
    ),
    "Moved": (
        "any_order_of_points_gives_finite_tokens_in_place",
        "48 are not",
        spoiled(lambda _, tokens: {"centroids": tokens.centroids + 1}),
    ),
    "Loud": ("untrained_features_are_of_order_one", "0.3 to 3", spoiled(lambda _, tokens: {"features": 100 * tokens.features})),
    "Timeless": ("time_matters", "backwards", changed(place=timeless)),
    "Directions": ("scale_matters", "a fifth", changed(place=directions)),
    "Absolute": ("place_of_the_sensor_does_not_matter", "is moved", changed(place=absolute)),
    "NoHint": ("clips_that_are_too_small_are_a_users_error", "the hint says: raise `clips.", fixture("encoder", Impatient)),
    "Rounded": ("bfloat16_autocast_leaves_coordinates_alone", "centroids", spoiled(rounded)),
    "Spread": ("coinciding_points_give_finite_gradients", "layers.0.weight", spoiled(spread)),
    "Unused": ("gradients_reach_every_parameter", "unused.weight, unused.bias", made(with_unused_layer)),
}
globals().update(falling(EncoderContract, {name: (f"test_{check}", says, encoder) for name, (check, says, encoder) in BROKEN.items()}))


def test_a_broken_encoder_falls_by_every_check() -> None:
    assert {f"test_{check}" for check, _, _ in BROKEN.values()} == checks(EncoderContract)


OUTSIDE = """
import torch
from torch import nn
from cross4d_train.encoders.encoder import Encoder, Tokens
from cross4d_train.testing import EncoderContract
import pytest

class NoConfig(Encoder):
    def __init__(self):
        super().__init__()
        self.channels, self.layer = 3, nn.Linear(3, 3)
    def forward(self, points):
        return self.layer(points[:, 0])

class NoTokens(NoConfig):
    def __init__(self, config=None):
        super().__init__()

class TestNoConfig(EncoderContract):
    @pytest.fixture
    def encoder(self):
        return NoConfig()

class TestNoTokens(EncoderContract):
    @pytest.fixture
    def encoder(self):
        return NoTokens()

class TestNothing(EncoderContract):
    pass
"""


def test_mistakes_of_the_first_hour_are_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(OUTSIDE)
    ended = pytester.runpytest("-q", "-k", "test_shapes")
    ended.assert_outcomes(errors=3)
    ended.stdout.fnmatch_lines(
        [
            "*AssertionError: NoConfig(config) makes an encoder whose weights a seed can draw: *takes 1 positional argument*",
            "*AssertionError: an encoder gives Tokens(features=..., centroids=..., frame=...); found *",
            "*NotImplementedError: TestNothing has to override the fixture `encoder`: an encoder in a small configuration",
        ]
    )
