"""Frozen teachers, by name."""

from collections.abc import Callable

import torch

from cross4d_cache.errors import SettingsError, TeacherError
from cross4d_cache.teachers import dinov2, position, tiny, vjepa2
from cross4d_cache.teachers.hf import ImageTeacher
from cross4d_cache.teachers.teacher import Teacher
from cross4d_cache.teachers.weights import load_pretrained

ALIASES = {"dinov2": "dinov2-l", "vjepa2": "vjepa2-l"}
"""A family's name alone means the size that the paper uses."""

FAMILIES: dict[str, Callable[..., Teacher]] = {
    "tiny": tiny.load,
    **dict.fromkeys(dinov2.HUB_IDS, dinov2.load),
    **dict.fromkeys(vjepa2.HUB_IDS, vjepa2.load),
    "position": position.load,
}


def teacher_names() -> list[str]:
    """Every name that `load_teacher` knows."""
    return [*ALIASES, *FAMILIES, "hf"]


def load_teacher(
    name: str,
    weights: str | None = None,
    *,
    image_size: int | None = None,
    window: int = 16,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Teacher:
    """Load a frozen teacher by name: bfloat16 on CUDA, float32 elsewhere.

    `weights` is a hub id, a local folder, or `random`; None means the published weights. `seed` is that of random weights and of the
    table of `position`. `image_size` in pixels defaults to the model's own; `window` is how many frames a video teacher sees at once.

    Raises:
        SettingsError: unknown teacher.
        TeacherError: the weights cannot be had or do not fit, or the image size does not.
    """
    device = torch.device(device)
    dtype = "bfloat16" if device.type == "cuda" else "float32"
    name = ALIASES.get(name, name)
    if name == "hf":
        if weights is None or weights == "random":
            raise TeacherError(
                "teacher hf needs weights", expected="a hub id or a folder of a transformers image backbone", hint="pass --weights"
            )
        return ImageTeacher(name, load_pretrained(weights, None, {}), image_size=image_size, dtype=dtype, device=device)
    if name not in FAMILIES:
        raise SettingsError(f"unknown teacher {name!r}", expected=f"one of: {', '.join(teacher_names())}")
    return FAMILIES[name](name, weights, image_size=image_size, window=window, dtype=dtype, device=device, seed=seed)
