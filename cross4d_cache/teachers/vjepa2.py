"""V-JEPA 2 (Assran et al. 2025): a video teacher, patches of 16 px, tubelets of 2 frames, rotary positions, three sizes."""

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from cross4d_cache.errors import TeacherError
from cross4d_cache.teachers.hf import check_whole_patches
from cross4d_cache.teachers.teacher import Teacher
from cross4d_cache.teachers.weights import LoadedModel, Preprocessing, load_pretrained, load_random
from cross4d_cache.types import TeacherSpec

HUB_IDS = {
    "vjepa2-l": "facebook/vjepa2-vitl-fpc64-256",
    "vjepa2-h": "facebook/vjepa2-vith-fpc64-256",
    "vjepa2-g": "facebook/vjepa2-vitg-fpc64-256",
}
_SHAPES = {"vjepa2-l": (1024, 24, 16, 4.0), "vjepa2-h": (1280, 32, 16, 4.0), "vjepa2-g": (1408, 40, 22, 48 / 11)}
MODEL_TYPES = ("vjepa2",)


def config(variant: str) -> VJEPA2Config:
    """Architecture of a variant as published: width, depth, heads, MLP ratio."""
    width, depth, heads, mlp_ratio = _SHAPES[variant]
    return VJEPA2Config(hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, mlp_ratio=mlp_ratio)


class VideoTeacher(Teacher):
    """The encoder of V-JEPA 2 (its predictor is dropped); the global embedding of a tubelet is the mean of its tokens."""

    def __init__(self, name: str, loaded: LoadedModel, *, window: int, dtype: str, device: torch.device) -> None:
        settings = loaded.model.config
        tubelet, size = settings.tubelet_size, settings.crop_size
        if window < tubelet or window % tubelet:
            raise TeacherError(
                f"a window of {window} frames is not a whole number of tubelets of {tubelet}",
                hint=f"pass --window {max(1, window // tubelet) * tubelet}",
            )
        check_whole_patches(size, settings.patch_size)
        self.encoder: torch.nn.Module = loaded.model.get_submodule("encoder").to(device)
        spec = TeacherSpec(
            name=name,
            weights=loaded.label,
            revision=loaded.revision,
            sha256=loaded.sha256,
            num_parameters=sum(parameter.numel() for parameter in self.encoder.parameters()),
            image_size=size,
            patch_size=settings.patch_size,
            tubelet=tubelet,
            window=window,
            channels=settings.hidden_size,
            layer=settings.num_hidden_layers,
            dtype=dtype,
            mean=loaded.preprocessing.mean,
            std=loaded.preprocessing.std,
        )
        super().__init__(spec, device)

    def forward(
        self, clips: Float32[Tensor, "window frame 3 height width"]
    ) -> tuple[Float[Tensor, "window tubelet patch channel"], Float[Tensor, "window tubelet channel"]]:
        """Tokens of each clip, cut into its tubelets."""
        hidden = self.encoder(pixel_values_videos=clips).last_hidden_state
        tokens = hidden.unflatten(1, (self.spec.window // self.spec.tubelet, self.spec.num_patches))
        return tokens, tokens.mean(dim=2)


def load(
    variant: str, weights: str | None, *, image_size: int | None, window: int, dtype: str, device: torch.device, seed: int
) -> VideoTeacher:
    """A V-JEPA 2 teacher that sees `window` frames at once; without `weights`, the published ones from the hub.

    Raises:
        TeacherError: the weights cannot be had or do not fit.
    """
    # Rotary positions follow the image size that the configuration names.
    overrides = {} if image_size is None else {"crop_size": image_size}
    if weights == "random":
        settings = config(variant)
        settings.update(overrides)
        loaded = load_random(lambda: VJEPA2Model(settings), Preprocessing(image_size=settings.crop_size), seed)
    else:
        loaded = load_pretrained(weights or HUB_IDS[variant], MODEL_TYPES, overrides)
    return VideoTeacher(variant, loaded, window=window, dtype=dtype, device=device)
