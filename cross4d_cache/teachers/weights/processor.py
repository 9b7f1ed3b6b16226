"""transformers' own image processor of a model, as seen from outside: what it makes of grey images.

Processors differ in more than their fields say (EfficientNet's divides by the deviation twice), and lack of a field means another thing
in each class. So the fields of the loaded processor count where they explain what it does, and what it does counts where they do not.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32
from transformers import AutoImageProcessor, BaseImageProcessor

from cross4d_cache.errors import TeacherError
from cross4d_cache.teachers.images import Colour, Normalisation
from cross4d_cache.teachers.weights.model import first_line, quiet

SIZES = (512, 640)
"""Sides of the images that are shown, px: a processor that makes one size of both takes images of that size."""
LEVELS = (0, 128, 255)
"""Brightness of the images that are shown, of 255."""
TOLERANCE = 1e-4
"""Largest difference, as a share of the contrast of the output, that counts as the rounding of float32."""
OPTIONS = "say what it expects of images in [0, 1] with `teacher.image_mean` and `teacher.image_std`"


@dataclass(frozen=True, kw_only=True)
class Processor:
    """What a processor does with a square image; `image_size` is None if it does not make squares of one size."""

    image_size: int | None
    normalisation: Normalisation


def observe(folder: Path) -> Processor | None:
    """The processor of a folder; None if transformers finds none there, or has it for torchvision only.

    Raises:
        TeacherError: a processor that does more than scale, crop and normalise.
    """
    try:
        with quiet():
            processor = AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True, trust_remote_code=False)
    except Exception:  # whatever keeps it from being loaded, the fields of the file are read next
        return None
    name = type(processor).__name__
    try:
        shown = [[_show(processor, level, size) for level in LEVELS] for size in SIZES]
    except Exception as error:  # such as text recognition that is not installed
        raise TeacherError(
            f"{folder}: its processor {name} takes no grey image: {first_line(error)}", expected="one of images", hint=OPTIONS
        ) from None
    sides = {side for images in shown for image in images for side in image.shape[1:]}
    found = np.stack([_centre(image) for image in shown[0]])
    fields = _fields(processor)
    if fields is None or not _close(found, _expected(fields)):
        fields = _fitted(found)
        if fields is None or not _close(found, _expected(fields)):
            raise TeacherError(
                f"{folder}: its processor {name} does more than rescale and normalise", expected="a line for each colour", hint=OPTIONS
            )
    return Processor(image_size=sides.pop() if len(sides) == 1 else None, normalisation=fields)


def _show(processor: BaseImageProcessor, level: int, size: int) -> Float[np.ndarray, "3 height width"]:
    [image] = processor(images=[np.full((size, size, 3), level, np.uint8)], return_tensors="np")["pixel_values"]
    values = np.asarray(image, dtype=np.float32)
    if values.ndim != 3 or len(values) != 3:
        raise ValueError(f"it makes arrays of shape {values.shape}, and not (3, height, width)")
    return values


def _centre(image: Float[np.ndarray, "3 height width"]) -> Float32[np.ndarray, " 3"]:
    """The colour in the middle: some processors pad."""
    return np.asarray(image[:, image.shape[1] // 2, image.shape[2] // 2])


def _fields(processor: BaseImageProcessor) -> Normalisation | None:
    """What the fields of a processor say."""
    rescaled = bool(getattr(processor, "do_rescale", False))
    factor = getattr(processor, "rescale_factor", None) if rescaled else 1.0
    mean, std = (_colour(getattr(processor, name, None)) for name in ("image_mean", "image_std"))
    if not getattr(processor, "do_normalize", False):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if factor is None or mean is None or std is None or min(std) <= 0:
        return None
    return Normalisation(mean=mean, std=std, scale=scale_of(factor))


def _colour(value: object) -> Colour | None:
    values = [value] * 3 if isinstance(value, (int, float)) else value
    if not isinstance(values, (list, tuple)) or len(values) != 3:
        return None
    red, green, blue = map(float, values)
    return red, green, blue


def scale_of(factor: float) -> float:
    """What images in [0, 1] are multiplied by, if bytes are by `factor`; 1/255 means 1, however it was rounded."""
    return round(factor * 255, 6)


def _expected(fields: Normalisation) -> Float[np.ndarray, "level 3"]:
    images = np.array(LEVELS)[:, None] / 255 * fields.scale
    normalised: Float[np.ndarray, "level 3"] = (images - np.array(fields.mean)) / np.array(fields.std)
    return normalised


def _fitted(found: Float32[np.ndarray, "level 3"]) -> Normalisation | None:
    """The line through what became of black and of white."""
    black, contrast = found[0].astype(float), (found[-1] - found[0]).astype(float)
    if not np.isfinite(found).all() or (contrast <= 0).any():
        return None
    red, green, blue = (float(f"{-dark / difference:.6g}") + 0.0 for dark, difference in zip(black, contrast, strict=True))
    r, g, b = (float(f"{1 / difference:.6g}") for difference in contrast)
    return Normalisation(mean=(red, green, blue), std=(r, g, b))


def _close(found: Float32[np.ndarray, "level 3"], expected: Float[np.ndarray, "level 3"]) -> bool:
    return bool(np.abs(found - expected).max() <= TOLERANCE * np.ptp(expected))
