"""The `config.json` of a model folder: which model it is, and whether that can be a teacher at all."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoConfig, AutoModel, PretrainedConfig

from cross4d_cache.errors import TeacherError
from cross4d_cache.patience import hint_for
from cross4d_cache.teachers.weights.model import first_line, quiet

CLIPS = ("num_frames", "tubelet_size", "frames_per_clip")
"""Settings that only models of videos have."""

VIDEO_TEACHERS = {"vjepa2": "vjepa2", "videomae": "videomae"}
"""Types of models of videos that have a teacher of their own."""

OTHER_MODEL = "choose an image backbone, such as a ViT; a teacher of your own: docs/adding_a_teacher.md"


def model_type(folder: Path) -> str | None:
    """The type of model that a folder names in its configuration, None if it has none."""
    found = _described(folder).get("model_type")
    return found if isinstance(found, str) else None


def read_config(folder: Path, overrides: dict[str, Any]) -> PretrainedConfig:
    """The configuration of a model folder, with some of its fields replaced.

    Raises:
        TeacherError: none, a damaged one, or one of a model that transformers does not have.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise TeacherError(
            f"{folder} has no config.json",
            expected="a model folder in transformers' layout",
            hint="save the model with model.save_pretrained(FOLDER)",
        )
    _check_type(folder)
    try:
        with quiet():
            config: PretrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **overrides)
    except ImportError as error:
        raise TeacherError(f"{path} needs another library: {first_line(error)}", hint=OTHER_MODEL) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TeacherError(f"{path} cannot be read: {first_line(error)}", hint=hint_for(error, "fetch it again")) from None
    return config


def _described(folder: Path) -> dict[str, Any]:
    """The configuration of a folder as it is written, empty if it cannot be read."""
    try:
        found = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_type(folder: Path) -> None:
    """Refuse what transformers could not make, or only with code or libraries that are not there."""
    described = _described(folder)
    named = model_type(folder)
    if described.get("auto_map") and named not in CONFIG_MAPPING:
        raise TeacherError(
            f"{folder} needs code of its own to be loaded, which is not run",
            expected="a model of a type that transformers has",
            hint="save the model as such a type, or write a teacher around it: docs/adding_a_teacher.md",
        )
    if "pretrained_cfg" in described or (named or "").startswith("timm"):
        raise TeacherError(
            f"{folder} holds a model of timm, {described.get('architecture', 'of unknown architecture')}",
            expected="a model in transformers' layout",
            hint="take the same model in transformers' layout, or its authors' file with its own `teacher.name` (`cross4d-cache teachers`)",
        )
    if named is not None and named not in CONFIG_MAPPING:
        raise TeacherError(
            f"{folder} holds a model of type {named!r}, which transformers {transformers.__version__} does not have",
            hint="update transformers if a newer one has it, or choose another model",
        )


def has_text(config: PretrainedConfig) -> bool:
    """Whether it is of a model of images and text, in which an encoder of images is one part."""
    return getattr(config, "vision_config", None) is not None


def check_backbone(folder: Path, config: PretrainedConfig) -> None:
    """Refuse what is no backbone of images, nor holds one in the usual place.

    Raises:
        TeacherError: says which kind of model it is.
    """
    kind = config.model_type
    if type(config) not in MODEL_MAPPING:
        raise TeacherError(
            f"{folder} holds a model of type {kind!r}, for a task, of which transformers has no backbone alone",
            expected="an image backbone",
            hint="save its backbone alone with model.backbone.save_pretrained(FOLDER), or pass the backbone it was made from",
        )
    if any(getattr(config, name, None) is not None for name in CLIPS):
        own = VIDEO_TEACHERS.get(kind)
        raise TeacherError(
            f"{folder} holds a model of type {kind!r}, which sees videos",
            expected="a backbone of single images",
            hint=f"pass `teacher.name` {own}" if own else OTHER_MODEL,
        )
    if has_text(config):
        with torch.device("meta"), quiet():
            tower = getattr(AutoModel.from_config(config), "vision_model", None)
        if tower is None or not hasattr(tower, "config"):
            raise TeacherError(
                f"{folder} holds a model of images and text ({kind!r}) that does not keep its image encoder as `vision_model`",
                expected="an image backbone, or a model like CLIP or SigLIP",
                hint="save its image encoder alone with save_pretrained, and pass that folder",
            )
