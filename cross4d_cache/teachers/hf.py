"""Any image backbone of transformers as a teacher, DINOv2 among them: tokens in, patches laid out on a grid."""

import inspect
from dataclasses import asdict
from functools import partial

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from cross4d_cache.errors import TeacherError
from cross4d_cache.teachers.blocks import truncate
from cross4d_cache.teachers.final_norm import pooled_norm, take
from cross4d_cache.teachers.images import Normalisation, normalise
from cross4d_cache.teachers.patch_grid import find_grid
from cross4d_cache.teachers.position_embeddings import resample_as_the_authors, round_periods_as_the_authors
from cross4d_cache.teachers.teacher import Teacher, TeacherChoice
from cross4d_cache.teachers.weights import LoadedModel
from cross4d_cache.teachers.weights.model import first_line
from cross4d_cache.types import TeacherSpec


class ImageTeacher(Teacher):
    """A model that sees one image at a time.

    Patch tokens are the last ones of the final hidden state; what stands before them (class and register tokens) is split off.
    The global embedding is the class token where there is one, else the mean of the patch tokens. Under the name `hf`, where nothing
    is known of the model, it has to show that its tokens follow their patches.

    Raises:
        TeacherError: the image size is not a whole number of patches, there is no grid of patches, or no such layer.
    """

    def __init__(self, loaded: LoadedModel, choice: TeacherChoice) -> None:
        self.model, device = loaded.model, choice.device
        layer = truncate(self.model, int(getattr(self.model.config, "num_hidden_layers", 0) or 0), choice.layer)
        self.model.to(device)
        if self.model.config.model_type == "dinov2":
            resample_as_the_authors(self.model.embeddings)
        elif self.model.config.model_type == "dinov3_vit":
            round_periods_as_the_authors(self.model.rope_embeddings)
        self._options = {"interpolate_pos_encoding": True} if _can_interpolate(self.model) else {}
        norm, self._norm = pooled_norm(self.model, loaded.missing)
        normalisation = loaded.preprocessing.normalisation
        size = loaded.preprocessing.image_size if choice.image_size is None else choice.image_size
        if size is None:
            raise TeacherError(f"{loaded.label} does not say its image size", hint="pass `teacher.image_size`")
        run = partial(self._run_probe, normalisation)
        self._grid = find_grid(run, size, self.model.config, device, check=choice.name == "hf")
        spec = TeacherSpec(
            name=choice.name,
            weights=loaded.label,
            revision=loaded.revision,
            sha256=loaded.sha256,
            num_parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            image_size=size,
            patch_size=size // self._grid.side,
            tubelet=1,
            window=1,
            channels=self._grid.channels,
            layer=layer,
            dtype=choice.dtype,
            norm=norm,
            **asdict(normalisation),
        )
        super().__init__(spec, device)

    def _hidden(self, pixels: Float32[Tensor, "image 3 height width"]) -> Float[Tensor, "row *rest"]:
        """A row an image, but of models that join images."""
        hidden: Tensor = self.model(pixel_values=pixels, **self._options).last_hidden_state
        return hidden

    def _run_probe(self, normalisation: Normalisation, images: Float32[Tensor, "image height width"]) -> Tensor:
        """The last hidden state for grey images, or what keeps a model from having one."""
        try:
            return self._hidden(normalise(images[:, None], normalisation)[:, 0])
        except torch.OutOfMemoryError:
            raise
        except (ValueError, RuntimeError, TypeError, AttributeError, ArithmeticError, LookupError) as error:
            size = images.shape[-1]
            raise TeacherError(
                f"a model of type {self.model.config.model_type!r} gives no patch features for images of {size} px: {first_line(error)}",
                expected="an image backbone",
                hint="pass another `teacher.image_size`, or another model",
            ) from None

    def forward(
        self, clips: Float32[Tensor, "window 1 3 height width"]
    ) -> tuple[Float[Tensor, "window 1 patch channel"], Float[Tensor, "window 1 channel"]]:
        """Patch tokens and class token of each image."""
        tokens = take(self._norm, self._grid.tokens(self._hidden(clips[:, 0])))
        patches = tokens[:, self._grid.prefix :]
        summary = tokens[:, 0] if self._grid.prefix else patches.mean(dim=1)
        return patches[:, None], summary[:, None]


def _can_interpolate(model: torch.nn.Module) -> bool:
    return "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
