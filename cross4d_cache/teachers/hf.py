"""Any image backbone of transformers as a teacher, DINOv2 among them: tokens in, patches laid out on a grid."""

import inspect
import math
from dataclasses import asdict

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from cross4d_cache.errors import TeacherError
from cross4d_cache.teachers.blocks import truncate
from cross4d_cache.teachers.position_embeddings import resample_as_the_authors, round_periods_as_the_authors
from cross4d_cache.teachers.teacher import Teacher
from cross4d_cache.teachers.weights import LoadedModel
from cross4d_cache.types import TeacherSpec


class ImageTeacher(Teacher):
    """A model that sees one image at a time.

    Patch tokens are the last ones of the final hidden state; what stands before them (class and register tokens) is split off.
    The global embedding is the class token where there is one, else the mean of the patch tokens.

    Raises:
        TeacherError: the image size is not a whole number of patches, the tokens do not form a square grid, or there is no such layer.
    """

    def __init__(
        self, name: str, loaded: LoadedModel, *, image_size: int | None, layer: int | None, dtype: str, device: torch.device
    ) -> None:
        self.model = loaded.model
        layer = truncate(self.model, int(getattr(self.model.config, "num_hidden_layers", 0)), layer)
        self.model.to(device)  # type: ignore[arg-type]  # transformers wraps the method's signature away
        if self.model.config.model_type == "dinov2":
            resample_as_the_authors(self.model.embeddings)
        elif self.model.config.model_type == "dinov3_vit":
            round_periods_as_the_authors(self.model.rope_embeddings)
        self._options = {"interpolate_pos_encoding": True} if _can_interpolate(self.model) else {}
        size = loaded.preprocessing.image_size if image_size is None else image_size
        side, self._prefix, channels = self._probe(size, device)
        spec = TeacherSpec(
            name=name,
            weights=loaded.label,
            revision=loaded.revision,
            sha256=loaded.sha256,
            num_parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            image_size=size,
            patch_size=size // side,
            tubelet=1,
            window=1,
            channels=channels,
            layer=layer,
            dtype=dtype,
            **asdict(loaded.preprocessing.normalisation),
        )
        super().__init__(spec, device)

    def _hidden(self, pixels: Float32[Tensor, "image 3 height width"]) -> Float[Tensor, "image token channel"]:
        hidden: Tensor = self.model(pixel_values=pixels, **self._options).last_hidden_state
        return hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden  # convolutional backbones give feature maps

    def _probe(self, size: int, device: torch.device) -> tuple[int, int, int]:
        """Patches along a side, tokens before them, and channels, from one empty image."""
        patch = getattr(self.model.config, "patch_size", None)
        if isinstance(patch, int):
            check_whole_patches(size, patch)
        try:
            with torch.inference_mode():
                tokens, channels = self._hidden(torch.zeros(1, 3, size, size, device=device)).shape[1:]
        except (ValueError, RuntimeError, TypeError, AttributeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise TeacherError(
                f"a model of type {self.model.config.model_type!r} gives no patch features for images of {size} px: {reason}",
                expected="an image backbone",
                hint="pass another --image-size, or another model",
            ) from None
        side = size // patch if isinstance(patch, int) else 0
        if not 0 < side * side <= tokens:
            side = math.isqrt(tokens)  # hierarchical and convolutional backbones: coarser than their first patches, nothing in front
        prefix = tokens - side * side
        if prefix > 16 or size % side:
            raise TeacherError(
                f"{tokens} tokens for images of {size} px do not form a grid of patches", hint="pass another --image-size, or another model"
            )
        return side, prefix, channels

    def forward(
        self, clips: Float32[Tensor, "window 1 3 height width"]
    ) -> tuple[Float[Tensor, "window 1 patch channel"], Float[Tensor, "window 1 channel"]]:
        """Patch tokens and class token of each image."""
        hidden = self._hidden(clips[:, 0])
        patches = hidden[:, self._prefix :]
        summary = hidden[:, 0] if self._prefix else patches.mean(dim=1)
        return patches[:, None], summary[:, None]


def check_whole_patches(image_size: int, patch_size: int) -> None:
    """Raise `TeacherError` unless the image side is a whole number of patches."""
    if image_size <= 0 or image_size % patch_size:
        below = max(1, image_size // patch_size) * patch_size
        raise TeacherError(
            f"image size {image_size} is not a whole number of patches of {patch_size} px",
            hint=f"pass --image-size {below} or {below + patch_size}",
        )


def _can_interpolate(model: torch.nn.Module) -> bool:
    return "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
