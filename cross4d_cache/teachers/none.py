"""No teacher: a store of points and labels alone, for evaluation and features of your own points."""

from jaxtyping import Float, Float32
from torch import Tensor

from cross4d_cache.store.digest import sha256_bytes
from cross4d_cache.teachers.images import check_whole_patches
from cross4d_cache.teachers.teacher import Teacher, TeacherChoice
from cross4d_cache.types import TeacherSpec

IMAGE_SIZE, PATCH_SIZE = 224, 14
"""Of the cameras that such a store has all the same, so that its frames can be looked at."""


class NoTeacher(Teacher):
    """Says how frames would be seen. A build asks it for no feature; its store has none, and no point that is visible."""

    def forward(
        self, clips: Float32[Tensor, "window frame 3 height width"]
    ) -> tuple[Float[Tensor, "window tubelet patch channel"], Float[Tensor, "window tubelet channel"]]:
        """Never asked for."""
        raise AssertionError("a build without a teacher asked for features")


def load(choice: TeacherChoice) -> NoTeacher:
    """The size of images is all that there is to choose.

    Raises:
        TeacherError: weights, a layer, or an image size that is not a whole number of patches.
    """
    choice.refuse("weights", "layer")
    size = IMAGE_SIZE if choice.image_size is None else choice.image_size
    check_whole_patches(size, PATCH_SIZE)
    spec = TeacherSpec(
        name=choice.name,
        weights="none",
        sha256=sha256_bytes(b""),
        num_parameters=0,
        image_size=size,
        patch_size=PATCH_SIZE,
        tubelet=1,
        window=1,
        channels=1,  # the format has no 0; there are no rows
        layer=0,
        dtype="float32",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    return NoTeacher(spec, choice.device)
