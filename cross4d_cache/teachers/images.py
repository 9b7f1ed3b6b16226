"""Images as teachers take them: of whole patches, normalised."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor

from cross4d_cache.errors import TeacherError
from cross4d_cache.types import TeacherSpec

Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """What a model expects of images in [0, 1]: `(image * scale - mean) / std`, by colour. Without arguments, ImageNet's."""

    mean: Colour = (0.485, 0.456, 0.406)
    std: Colour = (0.229, 0.224, 0.225)
    scale: float = 1.0


AS_THEY_ARE = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
"""Of models that take images in [0, 1]."""


def normalise(
    images: Float32[Tensor, "window frame height width"], to: Normalisation | TeacherSpec
) -> Float32[Tensor, "window frame 3 height width"]:
    """Grey images in [0, 1] as a teacher's model expects them."""
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (to.mean, to.std))
    return (images[:, :, None] * to.scale - mean) / std


def check_whole_patches(image_size: int, patch_size: int) -> None:
    """Raise `TeacherError` unless the image side is a whole number of patches."""
    if image_size <= 0 or image_size % patch_size:
        below = max(1, image_size // patch_size) * patch_size
        raise TeacherError(
            f"image size {image_size} is not a whole number of patches of {patch_size} px",
            hint=f"pass `teacher.image_size` {below} or {below + patch_size}",
        )
