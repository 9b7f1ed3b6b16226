"""What every teacher promises, as a suite to inherit."""

from typing import ClassVar

import pytest
import torch
from jaxtyping import Float32
from torch import Tensor

from cross4d_cache.teachers.teacher import Teacher, TeacherFeatures
from cross4d_cache.testing.randomness import global_generators_untouched
from cross4d_cache.types import TeacherSpec


def random_images(spec: TeacherSpec, num_windows: int, seed: int = 0) -> Float32[Tensor, "window frame height width"]:
    """Grey images in [0, 1] of the size and number of frames that a teacher takes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_windows, spec.window, spec.image_size, spec.image_size, generator=generator)


class TeacherContract:
    """Inherit it and override the fixture `teacher`, which gives the teacher in float32 on the CPU.

        class TestBrightness(TeacherContract):
            @pytest.fixture
            def teacher(self):
                return Brightness(image_size=64, device=torch.device("cpu"))

    No suite can tell whether features are those that the model's authors get: compare with their code.
    """

    sees_images: ClassVar[bool] = True
    """Whether tokens depend on what an image shows: controls such as a table of random vectors do not."""

    @pytest.fixture
    def teacher(self) -> Teacher:
        """To be overridden: the teacher."""
        raise NotImplementedError(f"{type(self).__name__} has to override the fixture `teacher`: the teacher, on the CPU")

    def test_the_spec_agrees_with_itself_and_is_recorded(self, teacher: Teacher) -> None:
        """Images are whole patches, windows whole tubelets, and the spec survives JSON, as every manifest records it."""
        spec = teacher.spec
        assert spec.image_size % spec.patch_size == 0, f"image_size is whole patches; found {spec.image_size} of {spec.patch_size}"
        assert spec.window % spec.tubelet == 0, f"window is whole tubelets; found {spec.window} of {spec.tubelet}"
        assert len(spec.sha256) == 64, f"sha256 is that of the weights, 64 digits; found {spec.sha256!r}"
        assert TeacherSpec.from_json(spec.model_dump_json()) == spec, f"the spec is another after JSON: {spec}"

    def test_features_have_the_shape_that_the_spec_promises(self, teacher: Teacher) -> None:
        """Tokens and global embeddings, finite float32; `spec.tubelet` frames share a token."""
        spec, features = teacher.spec, teacher(random_images(teacher.spec, 3))
        expected = (3, spec.window // spec.tubelet, spec.num_patches, spec.channels)
        _check("tokens", features.tokens, expected)
        _check("summary", features.summary, (*expected[:2], expected[3]))

    def test_a_black_image_has_finite_features(self, teacher: Teacher) -> None:
        """Nothing is seen in some images."""
        features = teacher(torch.zeros_like(random_images(teacher.spec, 1)))
        assert _is_finite(features), "features of a black image are finite; found NaN or infinity"

    def test_features_are_the_same_every_time_and_for_every_batch(self, teacher: Teacher) -> None:
        """Features of an image depend on nothing else: not on the rest of the batch, its order, or what was asked before."""
        clips = random_images(teacher.spec, 4)
        together = teacher(clips)
        for name in ("tokens", "summary"):
            whole, fewer, turned = (getattr(found, name) for found in (together, teacher(clips[:2]), teacher(clips.flip(0))))
            _check_close(f"{name} depend on how many images a batch has", fewer, whole[:2])
            _check_close(f"{name} depend on the order of a batch", turned.flip(0), whole)
        teacher(random_images(teacher.spec, 4, seed=1))
        again = teacher(clips)
        for name in ("tokens", "summary"):
            assert torch.equal(getattr(again, name), getattr(together, name)), f"{name} of the same images are others the second time"

    def test_nothing_draws_from_global_generators(self, teacher: Teacher) -> None:
        """A frozen model draws nothing."""
        with global_generators_untouched("a teacher"):
            teacher(random_images(teacher.spec, 1))

    def test_no_weight_can_be_trained(self, teacher: Teacher) -> None:
        """Features have no gradient, whatever the images have."""
        features = teacher(random_images(teacher.spec, 1).requires_grad_())
        for name in ("tokens", "summary"):
            assert not getattr(features, name).requires_grad, f"{name} are frozen; they require a gradient"

    def test_tokens_are_laid_out_row_by_row(self, teacher: Teacher) -> None:
        """From the top left: a change in the top right corner shows most in the last token of the first row.

        In a convolutional model, which has no layers to count, it may show most in the row below.
        """
        if not self.sees_images:
            pytest.skip("its tokens do not depend on the image")
        spec = teacher.spec
        clips = random_images(spec, 1) * 0.1
        changed = clips.clone()
        changed[..., : spec.patch_size, -spec.patch_size :] += 0.8
        difference = (teacher(changed).tokens - teacher(clips).tokens).norm(dim=-1)[0, 0]
        row, column = divmod(int(difference.argmax()), spec.patches_per_side)
        assert row <= int(spec.layer == 0), f"a change in the top right corner shows most in row {row}"
        assert column == spec.patches_per_side - 1, f"a change in the top right corner shows most in column {column}"


def _check(name: str, values: Tensor, shape: tuple[int, ...]) -> None:
    assert tuple(values.shape) == shape, f"{name} have the shape {shape} that `spec` says; found {tuple(values.shape)}"
    assert values.dtype == torch.float32, f"{name} are float32; found {values.dtype}"
    assert bool(values.isfinite().all()), f"{name} are finite; found NaN or infinity"


def _check_close(problem: str, found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, msg=lambda details: f"{problem}: {details}")


def _is_finite(features: TeacherFeatures) -> bool:
    return bool(features.tokens.isfinite().all() and features.summary.isfinite().all())
