"""A teacher that keeps its promises passes the suite; one that breaks a promise falls by the check of it."""

from collections.abc import Callable

import pytest
import torch

from cross4d_cache.store.digest import sha256_bytes
from cross4d_cache.teachers.images import normalise
from cross4d_cache.teachers.teacher import Teacher, TeacherFeatures
from cross4d_cache.testing import TeacherContract
from cross4d_cache.types import TeacherSpec
from tests.falling import checks, falling, fixture

PATCH = 8


def spec(**changes) -> TeacherSpec:
    return TeacherSpec(
        name="brightness", weights="none", sha256=sha256_bytes(b""), num_parameters=0, image_size=32, patch_size=PATCH, tubelet=1,
        window=1, channels=2, layer=0, dtype="float32", mean=(0, 0, 0), std=(1, 1, 1),
    ).model_copy(update=changes)  # fmt: skip


class Brightness(Teacher):
    """Mean and deviation of each patch, changed by `spoil`."""

    def __init__(self, spoil: Callable = lambda tokens, images: tokens, **changes) -> None:
        super().__init__(spec(**changes), torch.device("cpu"))
        self.spoil, self.calls = spoil, 0

    def forward(self, clips):
        images = clips[:, 0, 0]
        patches = images.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).flatten(3).flatten(1, 2)
        tokens = self.spoil(torch.stack([patches.mean(dim=-1), patches.std(dim=-1)], dim=-1), images)
        return tokens[:, None], tokens.mean(dim=1)[:, None]


class Trainable(Brightness):
    def __call__(self, images):
        tokens, summary = self.forward(normalise(images, self.spec))
        return TeacherFeatures(tokens=tokens, summary=summary)


class Counting(Brightness):
    def forward(self, clips):
        self.calls += 1
        tokens, summary = super().forward(clips)
        return tokens + 0.001 * (self.calls > 4), summary


class TestBrightness(TeacherContract):
    @pytest.fixture
    def teacher(self):
        return Brightness()


def transposed(tokens, images):
    return tokens.unflatten(1, (4, 4)).transpose(1, 2).flatten(1, 2)


def drawing(tokens, images):
    return tokens + 0 * torch.rand(())


BROKEN = {
    "HalfAPatch": ("the_spec_agrees_with_itself_and_is_recorded", "whole patches", lambda: Brightness(image_size=36)),
    "HalfATubelet": ("the_spec_agrees_with_itself_and_is_recorded", "whole tubelets", lambda: Brightness(window=3, tubelet=2)),
    "NoHash": ("the_spec_agrees_with_itself_and_is_recorded", "64 digits", lambda: Brightness(sha256="v1")),
    "ClassToken": (
        "features_have_the_shape_that_the_spec_promises",
        "the shape (3, 1, 16, 2)",
        lambda: Brightness(lambda tokens, images: torch.cat([tokens[:, :1], tokens], dim=1)),
    ),
    "OtherChannels": ("features_have_the_shape_that_the_spec_promises", "the shape (3, 1, 16, 3)", lambda: Brightness(channels=3)),
    "NaN": ("features_have_the_shape_that_the_spec_promises", "finite", lambda: Brightness(lambda tokens, images: tokens * torch.nan)),
    "Exposure": (
        "a_black_image_has_finite_features",
        "black image",
        lambda: Brightness(lambda tokens, images: tokens / images.amax(dim=(1, 2))[:, None, None]),
    ),
    "BatchNorm": (
        "features_are_the_same_every_time_and_for_every_batch",
        "how many images",
        lambda: Brightness(lambda tokens, images: tokens - tokens.mean(dim=0)),
    ),
    "Order": (
        "features_are_the_same_every_time_and_for_every_batch",
        "order of a batch",
        lambda: Brightness(lambda tokens, images: tokens * torch.arange(1, len(tokens) + 1)[:, None, None]),
    ),
    "Memory": ("features_are_the_same_every_time_and_for_every_batch", "the second time", Counting),
    "Dropout": ("nothing_draws_from_global_generators", "torch (torch.random)", lambda: Brightness(drawing)),
    "Unfrozen": ("no_weight_can_be_trained", "require a gradient", Trainable),
    "Transposed": ("tokens_are_laid_out_row_by_row", "in row 3", lambda: Brightness(transposed)),
    "Mirrored": (
        "tokens_are_laid_out_row_by_row",
        "in column 0",
        lambda: Brightness(lambda tokens, _: tokens.unflatten(1, (4, 4)).flip(2).flatten(1, 2)),
    ),
}
globals().update(
    falling(TeacherContract, {name: (f"test_{check}", says, fixture("teacher", make)) for name, (check, says, make) in BROKEN.items()})
)


def test_a_broken_teacher_falls_by_every_check() -> None:
    assert {f"test_{check}" for check, _, _ in BROKEN.values()} == checks(TeacherContract)
