"""Frozen teachers, by name."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib import import_module
from math import isfinite
from typing import Any, get_args

import torch

from cross4d_cache.catalogue import ALIASES, CATALOGUE
from cross4d_cache.errors import SettingsError, TeacherError
from cross4d_cache.installed import needed
from cross4d_cache.options import parse_options
from cross4d_cache.registry import Components
from cross4d_cache.teachers.images import Colour, Normalisation
from cross4d_cache.teachers.teacher import Teacher, TeacherChoice
from cross4d_cache.types import Precision

TEACHERS = Components[Teacher]("teacher", Teacher, {}, taken=(*ALIASES, *CATALOGUE, "hf"))
"""Teachers of other packages; those of this one are families of the catalogue."""

OWN_FAMILIES = ("tiny", "position", "none")
"""Those whose models are of this package: they need no transformers, and black is nothing to them, which has to stay 0."""


def teacher_names() -> list[str]:
    """Every name that `load_teacher` knows."""
    return TEACHERS.names()


def load_teacher(
    name: str,
    weights: str | None = None,
    *,
    image_size: int | None = None,
    window: int = 16,
    layer: int | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    image_mean: Colour | None = None,
    image_std: Colour | None = None,
    precision: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Teacher:
    """Load a frozen teacher by name. None of `precision` is bfloat16 on CUDA, float32 elsewhere.

    `weights` is a hub id (`ID` or `ID@REVISION`), a local folder, a checkpoint file of the authors, or `random`; None means the
    published weights. `seed` is that of random weights and of the table of `position`. `image_size` in pixels defaults to the model's
    own; `window` is how many frames a video teacher sees at once. Features are those of block `layer`, counted from 1, or of the last.
    `image_mean` and `image_std` normalise images in [0, 1] otherwise than the weights say. `options` are those of a teacher of another
    package.

    Raises:
        SettingsError: unknown teacher or option, or a precision in which the teacher does not compute.
        TeacherError: the weights cannot be had or do not fit, or the image size or layer does not.
    """
    device = torch.device(device)
    name = ALIASES.get(name, name)
    stated = _stated(name, image_mean, image_std)
    if precision is not None and precision not in get_args(Precision):
        raise SettingsError(
            f"precision {precision!r}", expected=f"one of: {', '.join(get_args(Precision))}", hint="choose another `teacher.precision`"
        )
    choice = TeacherChoice(
        name=name,
        weights=weights,
        image_size=image_size,
        window=window,
        layer=layer,
        dtype=precision or ("bfloat16" if device.type == "cuda" else "float32"),
        device=device,
        seed=seed,
    )
    teacher = _load(choice, stated, options or {})
    if precision is not None and teacher.spec.dtype != precision:
        raise SettingsError(
            f"teacher {name} computes in {teacher.spec.dtype}, not in {precision}", expected="its own", hint="leave out `teacher.precision`"
        )
    return teacher


def _load(choice: TeacherChoice, stated: Normalisation | None, options: Mapping[str, Any]) -> Teacher:
    """The teacher of a choice, with images normalised as the user says, if he does."""
    name = choice.name
    if name not in CATALOGUE and name != "hf":
        return _stating(_load_other(choice, options), stated)
    if options:
        raise SettingsError(f"options of teacher {name}: {', '.join(options)}", expected="none: it has no options", hint="leave them out")
    if name == "hf":
        return _load_backbone(choice, stated)
    family = CATALOGUE[name].family
    if family not in OWN_FAMILIES:
        _need_transformers()
    return _stating(import_module(f"{__name__}.{family}").load(choice), stated)


def _load_backbone(choice: TeacherChoice, stated: Normalisation | None) -> Teacher:
    """An image backbone of transformers that no family is written for."""
    if choice.weights is None or choice.weights == "random":
        raise TeacherError(
            "teacher hf needs weights", expected="a hub id or a folder of a transformers image backbone", hint="pass `teacher.weights`"
        )
    _need_transformers()
    from cross4d_cache.teachers.hf import ImageTeacher
    from cross4d_cache.teachers.weights import load_pretrained

    return ImageTeacher(load_pretrained(choice.weights, None, stated), choice)


def _need_transformers() -> None:
    """Import it, where a teacher is of it: seconds that others need not wait for."""
    with needed("transformers", "runs teachers"):
        import_module("transformers")


def _load_other(choice: TeacherChoice, options: Mapping[str, Any]) -> Teacher:
    """A teacher of another package, whose store records its options."""
    cls = TEACHERS.find(choice.name)
    chosen = parse_options(cls.Options, options, of=f"teacher {choice.name}")
    teacher = cls.load(replace(choice, options=chosen))
    if teacher.spec.name != choice.name:
        raise SettingsError(
            f"teacher {choice.name} calls itself {teacher.spec.name!r}",
            expected="a spec with the name of the choice",
            hint="correct its class",
        )
    teacher.spec = teacher.spec.model_copy(update={"options": chosen.model_dump(mode="json")})
    return teacher


def _stating(teacher: Teacher, stated: Normalisation | None) -> Teacher:
    """The teacher with images normalised as the user says, if he does."""
    if stated is not None:
        teacher.spec = teacher.spec.model_copy(update=asdict(stated))
    return teacher


def _stated(name: str, mean: Colour | None, std: Colour | None) -> Normalisation | None:
    """How the user says that images are normalised."""
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise SettingsError("`teacher.image_mean` and `teacher.image_std` belong together", hint="pass both or neither")
    if name in CATALOGUE and CATALOGUE[name].family in OWN_FAMILIES:
        raise SettingsError(f"teacher {name} takes images as they are", hint="leave out `teacher.image_mean` and `teacher.image_std`")
    if not all(isfinite(value) for value in (*mean, *std)) or min(std) <= 0:
        raise SettingsError(f"mean {mean} and deviation {std} of images", expected="numbers, the deviation above 0", hint="pass others")
    return Normalisation(mean=mean, std=std)
