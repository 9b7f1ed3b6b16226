"""What a folder says of the images that its model takes: their size and their normalisation."""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, FiniteFloat, ValidationError
from transformers import PretrainedConfig

from cross4d_cache.errors import TeacherError
from cross4d_cache.patience import hint_for
from cross4d_cache.teachers.images import AS_THEY_ARE, Normalisation
from cross4d_cache.teachers.weights.model import Preprocessing
from cross4d_cache.teachers.weights.processor import OPTIONS, observe, scale_of

FILES = (
    ("processor_config.json", "image_processor"),
    ("preprocessor_config.json", None),
    ("processor_config.json", "video_processor"),
    ("video_preprocessor_config.json", None),
)
"""Where transformers writes it, and under which key; the first one that is there counts, as it does in transformers."""

NORMALISES_INSIDE = ("radio",)
"""Types of models that do it themselves, with numbers of their configuration."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _each_colour(value: object) -> object:
    """One number stands for all colours."""
    return [value] * 3 if isinstance(value, (int, float)) else value


class _Fields(BaseModel):
    """The fields of a processor that matter here, as they are written; None stands for one that is absent."""

    do_resize: bool | None = None
    size: Any = None
    do_center_crop: bool | None = None
    crop_size: Any = None
    do_rescale: bool | None = None
    rescale_factor: Positive | None = None
    do_normalize: bool | None = None
    image_mean: Annotated[tuple[FiniteFloat, FiniteFloat, FiniteFloat] | None, BeforeValidator(_each_colour)] = None
    image_std: Annotated[tuple[Positive, Positive, Positive] | None, BeforeValidator(_each_colour)] = None

    @property
    def image_size(self) -> int | None:
        """Side of the images that come out."""
        cropped = None if self.do_center_crop is False else _side(self.crop_size)
        return cropped or (None if self.do_resize is False else _side(self.size))

    def normalisation(self, published: Normalisation | None) -> Normalisation | None:
        """How images in [0, 1] are normalised; what is not written is as `published`. None if it does not follow."""
        mean, std = self.image_mean, self.image_std
        if published is not None:
            mean, std = mean or published.mean, std or published.std
        if self.do_normalize is False:
            mean, std = AS_THEY_ARE.mean, AS_THEY_ARE.std
        if mean is None or std is None:
            return None
        factor = 1.0 if self.do_rescale is False else self.rescale_factor or 1 / 255
        return Normalisation(mean=mean, std=std, scale=scale_of(factor))


def read_preprocessing(
    folder: Path, config: PretrainedConfig, *, published: Normalisation | None, stated: Normalisation | None
) -> Preprocessing:
    """Size and normalisation of the images of a model in a folder.

    `published` is how the family of a named teacher normalises, for what its folder does not say; without it, transformers' own
    processor of the folder counts. `stated` is what the user says, and counts before all.

    Raises:
        TeacherError: nothing says it, or what is written cannot be meant.
    """
    fields = _read(folder)
    processor = observe(folder) if fields is not None and published is None and stated is None else None
    written = None if fields is None else fields.normalisation(published)
    known = AS_THEY_ARE if config.model_type in NORMALISES_INSIDE else published
    normalisation = stated or (processor.normalisation if processor else written or known)
    if normalisation is None:
        raise TeacherError(
            f"{folder} does not say how its model normalises images",
            expected="preprocessor_config.json or processor_config.json, as transformers saves them, with image_mean and image_std",
            hint=f"save them with AutoImageProcessor, or {OPTIONS}",
        )
    size = fields.image_size if fields else None
    if size is not None and processor is not None:
        size = processor.image_size
    own = (_side(getattr(config, name, None)) for name in ("image_size", "crop_size"))
    size = size or next(filter(None, own), None) or (processor.image_size if processor else None)
    return Preprocessing(image_size=size, normalisation=normalisation)


def _read(folder: Path) -> _Fields | None:
    """What a folder's files say of its processor, None without one."""
    for name, key in FILES:
        path = folder / name
        if not path.is_file():
            continue
        try:
            held = json.loads(path.read_bytes())
            held = held.get(key) if key is not None else held
            if held is not None:
                return _Fields.model_validate(held)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "the file"
            raise TeacherError(f"{path}: {field}: {first['msg']}", hint="correct it, or fetch it again") from None
        except (OSError, ValueError, AttributeError) as error:
            raise TeacherError(
                f"{path} cannot be read: {error}", expected="a JSON object", hint=hint_for(error, "fetch it again")
            ) from None
    return None


def _side(value: object) -> int | None:
    """Side of a square image from any of the ways configurations write it."""
    if isinstance(value, dict):
        value = [value.get("height"), value.get("width")] if value.get("height") else value.get("shortest_edge")
    if isinstance(value, (list, tuple)):
        value = value[0] if len(set(value)) == 1 else None
    return value if isinstance(value, int) and value > 0 else None
