"""DINOv2 (Oquab et al. 2023): the paper's default teacher, patches of 14 px, four sizes."""

import torch
from transformers import Dinov2Config, Dinov2Model

from cross4d_cache.teachers.hf import ImageTeacher
from cross4d_cache.teachers.weights import LoadedModel, Preprocessing, load_pretrained, load_random

HUB_IDS = {
    "dinov2-s": "facebook/dinov2-small",
    "dinov2-b": "facebook/dinov2-base",
    "dinov2-l": "facebook/dinov2-large",
    "dinov2-g": "facebook/dinov2-giant",
}
_SHAPES = {"dinov2-s": (384, 12, 6), "dinov2-b": (768, 12, 12), "dinov2-l": (1024, 24, 16), "dinov2-g": (1536, 40, 24)}
MODEL_TYPES = ("dinov2", "dinov2_with_registers")


def config(variant: str) -> Dinov2Config:
    """Architecture of a variant as published: width, depth, heads, and SwiGLU in the largest."""
    width, depth, heads = _SHAPES[variant]
    return Dinov2Config(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        image_size=518,
        patch_size=14,
        use_swiglu_ffn=variant == "dinov2-g",
    )


def load(
    variant: str, weights: str | None, *, image_size: int | None, window: int, dtype: str, device: torch.device, seed: int
) -> ImageTeacher:
    """A DINOv2 teacher; without `weights`, the published ones from the hub. An image model has no use for `window`.

    Raises:
        TeacherError: the weights cannot be had or do not fit.
    """
    if weights == "random":
        # 224 px is what the published preprocessing crops to.
        loaded: LoadedModel = load_random(lambda: Dinov2Model(config(variant)), Preprocessing(image_size=224), seed)
    else:
        loaded = load_pretrained(weights or HUB_IDS[variant], MODEL_TYPES, {})
    return ImageTeacher(variant, loaded, image_size=image_size, dtype=dtype, device=device)
