"""Weights in a folder of transformers' layout, local or fetched from the hub.

They are read from safetensors only, so that nothing is unpickled; no code from a hub is run.
"""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

from cross4d_cache.errors import TeacherError
from cross4d_cache.patience import hint_for
from cross4d_cache.teachers.images import Normalisation
from cross4d_cache.teachers.weights import hub
from cross4d_cache.teachers.weights.configuration import check_backbone, has_text, read_config
from cross4d_cache.teachers.weights.files import read_tensors, sha256_of, tensor_names, weight_files
from cross4d_cache.teachers.weights.model import LoadedModel, check_numbers, first_line, quiet
from cross4d_cache.teachers.weights.preprocessing import read_preprocessing
from cross4d_cache.teachers.weights.source import WeightSource

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".safetensors")

TOWER = "vision_model"
"""Where models of images and text keep the encoder of images."""


def load_pretrained(weights: str, source: WeightSource | None, stated: Normalisation | None = None) -> LoadedModel:
    """A model from a local folder in transformers' layout, or from a hub id, which may be pinned as `ID@REVISION`.

    `source` says what fits a named teacher; None means any image backbone, or the one inside a model of images and text. `stated` is
    how the user says that images are normalised.

    Raises:
        TeacherError: nothing there, the hub cannot be reached, another architecture, or weights that do not fit it.
    """
    folder, revision = locate(weights)
    config = read_config(folder, {} if source is None else dict(source.overrides))
    if source is None:
        check_backbone(folder, config)
    elif config.model_type not in source.model_types:
        raise TeacherError(
            f"{weights} holds a model of type {config.model_type!r}",
            expected=f"type {' or '.join(repr(name) for name in source.model_types)}",
            hint="choose the teacher that fits, or `teacher.name` hf for any vision backbone",
        )
    files = weight_files(folder)
    adopted = {} if source is None else dict(source.adapt(config, tensor_names(files)))
    model, missing = _load(folder, config)
    if adopted:
        tensors = read_tensors(files, adopted)
        model.load_state_dict({adopted[name]: tensor for name, tensor in tensors.items()}, strict=False)
        missing -= set(adopted.values())
    if source is None and has_text(config):
        model = getattr(model, TOWER)
        missing = {name.removeprefix(f"{TOWER}.") for name in missing if name.startswith(f"{TOWER}.")}
    unused = "" if source is None else source.unused
    # A pooling head is not part of the features, and backbones are often saved without one.
    needed = sorted(name for name in missing if not name.startswith(("pooler.", "head.")) and not re.fullmatch(unused, name))
    if needed:
        raise TeacherError(
            f"the weights in {folder} do not fit its configuration: {len(needed)} tensors missing or mis-shaped, the first {needed[0]}",
            hint="fetch the weights and the configuration of the same model",
        )
    check_numbers(model, str(folder), {*missing, *(name for name, _ in model.named_parameters() if re.fullmatch(unused, name))})
    published = None if source is None else source.normalisation((), weights)
    return LoadedModel(
        model=model,
        preprocessing=read_preprocessing(folder, model.config, published=published, stated=stated),
        label=folder.name if revision is None else weights.partition("@")[0],
        revision=revision,
        sha256=sha256_of(files),
        missing=frozenset(missing),
        adopted=tuple(adopted),
    )


def _load(folder: Path, config: PretrainedConfig) -> tuple[PreTrainedModel, set[str]]:
    """A model, and the names of its tensors that its files do not hold, or not in its shape."""
    # Alone among its kin it is made without the head that holds its last norm.
    pooled = {"add_pooling_layer": True} if config.model_type == "data2vec-vision" else {}
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True, "dtype": torch.float32}
    try:
        with quiet():
            model, report = AutoModel.from_pretrained(folder, config=config, output_loading_info=True, **options, **pooled)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise TeacherError(
            f"the weights in {folder} cannot be loaded: {first_line(error)}", hint=hint_for(error, "fetch them again")
        ) from None
    except ImportError as error:
        raise TeacherError(
            f"a model of type {config.model_type!r} needs another library: {first_line(error)}",
            expected="a model that transformers runs alone",
            hint="choose another model",
        ) from None
    misshaped = {str(key[0] if isinstance(key, tuple) else key) for key in report["mismatched_keys"]}
    return model, {*report["missing_keys"], *misshaped}


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
            hint="name its own teacher with `teacher.name`, or pass a folder in transformers' layout",
        )
    looks_like_path = weights.startswith((".", "/", "~")) or weights.partition("@")[0].count("/") != 1
    if looks_like_path or path.suffix in CHECKPOINT_SUFFIXES:
        raise TeacherError(
            f"there is no {'file' if path.suffix in CHECKPOINT_SUFFIXES else 'folder'} {weights}",
            expected="a folder with config.json and model.safetensors, a hub id such as facebook/dinov2-small, "
            "a checkpoint file of the model's authors, or `random`",
            hint="pass `teacher.weights`",
        )
    return hub.fetch(weights)
