"""Frozen teachers, by name."""

from importlib import import_module

import torch

from cross4d_cache.catalogue import ALIASES, CATALOGUE
from cross4d_cache.errors import SettingsError, TeacherError
from cross4d_cache.teachers.hf import ImageTeacher
from cross4d_cache.teachers.teacher import Teacher
from cross4d_cache.teachers.weights import load_pretrained


def teacher_names() -> list[str]:
    """Every name that `load_teacher` knows."""
    return [*ALIASES, *CATALOGUE, "hf"]


def load_teacher(
    name: str,
    weights: str | None = None,
    *,
    image_size: int | None = None,
    window: int = 16,
    layer: int | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Teacher:
    """Load a frozen teacher by name: bfloat16 on CUDA, float32 elsewhere.

    `weights` is a hub id (`ID` or `ID@REVISION`), a local folder, a checkpoint file of the authors, or `random`; None means the
    published weights. `seed` is that of random weights and of the table of `position`. `image_size` in pixels defaults to the model's
    own; `window` is how many frames a video teacher sees at once. Features are those of block `layer`, counted from 1, or of the last.

    Raises:
        SettingsError: unknown teacher.
        TeacherError: the weights cannot be had or do not fit, or the image size or layer does not.
    """
    device = torch.device(device)
    dtype = "bfloat16" if device.type == "cuda" else "float32"
    name = ALIASES.get(name, name)
    if name == "hf":
        if weights is None or weights == "random":
            raise TeacherError(
                "teacher hf needs weights", expected="a hub id or a folder of a transformers image backbone", hint="pass --weights"
            )
        loaded = load_pretrained(weights, None, {})
        return ImageTeacher(name, loaded, image_size=image_size, layer=layer, dtype=dtype, device=device)
    if name not in CATALOGUE:
        raise SettingsError(f"unknown teacher {name!r}", expected=f"one of: {', '.join(teacher_names())}", hint="pass --teacher")
    family = import_module(f"{__name__}.{CATALOGUE[name].family}")
    options = {"image_size": image_size, "window": window, "layer": layer, "dtype": dtype, "device": device, "seed": seed}
    teacher: Teacher = family.load(name, weights, **options)
    return teacher
