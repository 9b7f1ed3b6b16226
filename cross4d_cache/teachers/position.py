"""A control without a network: a random vector for each patch of the image, to tell what a point's place alone explains."""

import zlib

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor

from cross4d_cache.store.digest import sha256_bytes
from cross4d_cache.teachers.images import check_whole_patches
from cross4d_cache.teachers.teacher import Teacher, TeacherChoice
from cross4d_cache.types import TeacherSpec

IMAGE_SIZE = 112
PATCH_SIZE = 8
CHANNELS = 32


class PositionTeacher(Teacher):
    """The token of patch `p` is row `p` of a table, whatever the image shows.

    The global embedding is the mean row of the patches that are not entirely black, zeros if all are.
    """

    def __init__(self, name: str, table: Float32[np.ndarray, "patch channel"], *, seed: int, image_size: int, device: torch.device) -> None:
        self._table = torch.from_numpy(table).to(device)
        spec = TeacherSpec(
            name=name,
            weights=f"table:{seed}",
            sha256=sha256_bytes(table.tobytes()),
            num_parameters=0,
            image_size=image_size,
            patch_size=PATCH_SIZE,
            tubelet=1,
            window=1,
            channels=CHANNELS,
            layer=0,
            dtype="float32",  # on every device: there is nothing to speed up
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        )
        super().__init__(spec, device)

    def forward(
        self, clips: Float32[Tensor, "window 1 3 height width"]
    ) -> tuple[Float[Tensor, "window 1 patch channel"], Float[Tensor, "window 1 channel"]]:
        """The table for each image, and the mean of the rows whose patches hold something."""
        held = (F.max_pool2d(clips[:, 0, :1], PATCH_SIZE).flatten(1) > 0).float()
        summary = held @ self._table / held.sum(dim=1, keepdim=True).clamp(min=1)
        return self._table.expand(len(clips), 1, -1, -1), summary[:, None]


def load(choice: TeacherChoice) -> PositionTeacher:
    """A table of standard normal numbers that follow `seed`.

    Raises:
        TeacherError: weights, a layer, or an image size that is not a whole number of patches.
    """
    choice.refuse("weights", "layer")
    size = IMAGE_SIZE if choice.image_size is None else choice.image_size
    check_whole_patches(size, PATCH_SIZE)
    # A stream of its own: the projection draws from the seed alone.
    rng = np.random.default_rng([choice.seed, zlib.crc32(choice.name.encode())])
    table = rng.standard_normal(((size // PATCH_SIZE) ** 2, CHANNELS), dtype=np.float32)
    return PositionTeacher(choice.name, table, seed=choice.seed, image_size=size, device=choice.device)
