"""Weights in a folder of transformers' layout, local or fetched from the hub.

They are read from safetensors only, so that nothing is unpickled; no code from a hub is run.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, PretrainedConfig

from cross4d_cache.errors import TeacherError
from cross4d_cache.store.digest import sha256_file
from cross4d_cache.teachers.weights import hub
from cross4d_cache.teachers.weights.model import LoadedModel, Normalisation, first_line, quiet
from cross4d_cache.teachers.weights.preprocessing import read_preprocessing
from cross4d_cache.teachers.weights.source import WeightSource

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".safetensors")


def load_pretrained(weights: str, source: WeightSource | None, stated: Normalisation | None = None) -> LoadedModel:
    """A model from a local folder in transformers' layout, or from a hub id, which may be pinned as `ID@REVISION`.

    `source` says what fits a named teacher; None means any image backbone. `stated` is how the user says that images are normalised.

    Raises:
        TeacherError: nothing there, the hub cannot be reached, another architecture, or weights that do not fit it.
    """
    folder, revision = locate(weights)
    config = _config(folder, {} if source is None else dict(source.overrides))
    if source is not None and config.model_type not in source.model_types:
        raise TeacherError(
            f"{weights} holds a model of type {config.model_type!r}",
            expected=f"type {' or '.join(repr(name) for name in source.model_types)}",
            hint="choose the teacher that fits, or --teacher hf for any vision backbone",
        )
    file = folder / "model.safetensors"
    if not file.is_file():
        raise TeacherError(f"{folder} has no model.safetensors", hint="save the model with model.save_pretrained(FOLDER)")
    try:
        with quiet():
            model, report = AutoModel.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise TeacherError(f"the weights in {folder} cannot be loaded: {first_line(error)}", hint="fetch them again") from None
    # A pooling head is not part of the features, and backbones are often saved without one.
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing or report["mismatched_keys"]:
        wrong = missing or sorted(str(key[0] if isinstance(key, tuple) else key) for key in report["mismatched_keys"])
        raise TeacherError(
            f"the weights in {folder} do not fit its configuration: {len(wrong)} tensors missing or mis-shaped, the first {wrong[0]}",
            hint="fetch the weights and the configuration of the same model",
        )
    published = None if source is None else source.normalisation((), weights)
    return LoadedModel(
        model=model,
        preprocessing=read_preprocessing(folder, config, published=published, stated=stated),
        label=folder.name if revision is None else weights.partition("@")[0],
        revision=revision,
        sha256=sha256_file(file),
    )


def locate(weights: str) -> tuple[Path, str | None]:
    """Local folder of some weights, a folder already or on the hub, and the hub revision they came from.

    Raises:
        TeacherError: nothing there, or the hub cannot be reached.
    """
    path = Path(weights)
    if path.is_dir():
        return path, None
    if path.is_file():
        raise TeacherError(
            f"{weights} is a single file, which does not say what model it belongs to",
            hint="name its own teacher with --teacher, or pass a folder in transformers' layout",
        )
    looks_like_path = weights.startswith((".", "/", "~")) or weights.partition("@")[0].count("/") != 1
    if looks_like_path or path.suffix in CHECKPOINT_SUFFIXES:
        raise TeacherError(
            f"there is no {'file' if path.suffix in CHECKPOINT_SUFFIXES else 'folder'} {weights}",
            expected="a folder with config.json and model.safetensors, a hub id such as facebook/dinov2-small, "
            "a checkpoint file of the model's authors, or `random`",
            hint="pass --weights",
        )
    return hub.fetch(weights)


def _config(folder: Path, overrides: dict[str, Any]) -> PretrainedConfig:
    if not (folder / "config.json").is_file():
        raise TeacherError(
            f"{folder} has no config.json",
            expected="a model folder in transformers' layout",
            hint="save the model with model.save_pretrained(FOLDER)",
        )
    described = _described(folder)
    if described.get("auto_map") and described.get("model_type") not in CONFIG_MAPPING:
        raise TeacherError(
            f"{folder} needs code of its own to be loaded, which is not run",
            expected="a model of a type that transformers has",
            hint="save the model as such a type, or write a teacher around it: docs/adding_a_teacher.md",
        )
    try:
        with quiet():
            config: PretrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **overrides)
            return config
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TeacherError(f"{folder}/config.json cannot be read: {first_line(error)}", hint="fetch it again") from None


def _described(folder: Path) -> dict[str, Any]:
    """The configuration of a folder as it is written, empty if it cannot be read."""
    try:
        found = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def model_type(folder: Path) -> str | None:
    """The type of model that a folder names in its configuration, None if it has none."""
    found = _described(folder).get("model_type")
    return found if isinstance(found, str) else None
