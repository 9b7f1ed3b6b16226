"""Finding, checking and loading the weights of a transformers model: a hub id, a local folder, or seeded random numbers.

Weights are read from safetensors only, so that nothing is unpickled; no code from a hub is run.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from cross4d_cache.errors import TeacherError
from cross4d_cache.store.digest import sha256_file

Module = TypeVar("Module", bound=torch.nn.Module)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PREPROCESSING_FILES = ("preprocessor_config.json", "video_preprocessor_config.json")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Image side in pixels, and the mean and deviation that normalise images in [0, 1]."""

    image_size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A frozen model in float32 with what the manifest records of its weights."""

    model: PreTrainedModel
    preprocessing: Preprocessing
    label: str
    revision: str | None
    sha256: str


def load_random(build: Callable[[], PreTrainedModel], preprocessing: Preprocessing, seed: int) -> LoadedModel:
    """A model with untrained weights; see `build_random`."""
    model, digest = build_random(build, seed)
    return LoadedModel(model=_freeze(model), preprocessing=preprocessing, label=f"random:{seed}", revision=None, sha256=digest)


def build_random(build: Callable[[], Module], seed: int) -> tuple[Module, str]:
    """A module with untrained weights, the same ones for the same seed, and their hash; the process's generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return model, digest.hexdigest()


def load_pretrained(weights: str, model_types: tuple[str, ...] | None, overrides: dict[str, Any]) -> LoadedModel:
    """A model from a local folder in transformers' layout, or from a hub id.

    `model_types` are the architectures that fit, None for any; `overrides` change fields of its configuration.

    Raises:
        TeacherError: nothing there, the hub cannot be reached, another architecture, or weights that do not fit it.
    """
    folder, revision = _folder(weights)
    config = _config(folder, overrides)
    if model_types is not None and config.model_type not in model_types:
        raise TeacherError(
            f"{weights} holds a model of type {config.model_type!r}",
            expected=f"type {' or '.join(repr(name) for name in model_types)}",
            hint="choose the teacher that fits, or --teacher hf for any vision backbone",
        )
    file = folder / "model.safetensors"
    if not file.is_file():
        raise TeacherError(f"{folder} has no model.safetensors", hint="save the model with model.save_pretrained(FOLDER)")
    try:
        with _quiet():
            model, report = AutoModel.from_pretrained(
                folder, config=config, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise TeacherError(f"the weights in {folder} cannot be loaded: {_first_line(error)}", hint="fetch them again") from None
    # A pooling head is not part of the features, and backbones are often saved without one.
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing or report["mismatched_keys"]:
        wrong = missing or sorted(str(key[0] if isinstance(key, tuple) else key) for key in report["mismatched_keys"])
        raise TeacherError(
            f"the weights in {folder} do not fit its configuration: {len(wrong)} tensors missing or mis-shaped, the first {wrong[0]}",
            hint="fetch the weights and the configuration of the same model",
        )
    label = folder.name if Path(weights).is_dir() else weights
    return LoadedModel(
        model=_freeze(model), preprocessing=_preprocessing(folder, config), label=label, revision=revision, sha256=sha256_file(file)
    )


def _folder(weights: str) -> tuple[Path, str | None]:
    """Local folder of some weights, and the hub revision they came from."""
    path = Path(weights)
    if path.is_dir():
        return path, None
    looks_like_path = path.exists() or weights.startswith((".", "/", "~")) or weights.count("/") != 1
    if looks_like_path:
        raise TeacherError(
            f"there is no folder {weights}",
            expected="a folder with config.json and model.safetensors, a hub id such as facebook/dinov2-small, or `random`",
            hint="pass --weights",
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(weights, allow_patterns=["*.json", "model.safetensors"], etag_timeout=10))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise TeacherError(
            f"{weights} cannot be fetched from the hub: {_first_line(error)}",
            hint="download the model elsewhere and pass its folder with --weights FOLDER, or try out the plumbing with --weights random",
        ) from None
    return folder, folder.name


def _config(folder: Path, overrides: dict[str, Any]) -> PretrainedConfig:
    if not (folder / "config.json").is_file():
        raise TeacherError(
            f"{folder} has no config.json",
            expected="a model folder in transformers' layout",
            hint="save the model with model.save_pretrained(FOLDER)",
        )
    try:
        with _quiet():
            config: PretrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True, **overrides)
            return config
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TeacherError(f"{folder}/config.json cannot be read: {_first_line(error)}", hint="fetch it again") from None


class _PreprocessingFile(BaseModel):
    """The fields of a transformers preprocessing file that matter here."""

    crop_size: Any = None
    size: Any = None
    image_mean: tuple[float, float, float] = IMAGENET_MEAN
    image_std: tuple[float, float, float] = IMAGENET_STD


def _preprocessing(folder: Path, config: PretrainedConfig) -> Preprocessing:
    """Image size and normalisation from the model's own files."""
    settings = _PreprocessingFile()
    for name in PREPROCESSING_FILES:
        if (folder / name).is_file():
            try:
                settings = _PreprocessingFile.model_validate_json((folder / name).read_bytes())
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(str(part) for part in first["loc"]) or "the file"
                raise TeacherError(f"{folder / name}: {field}: {first['msg']}", hint="fetch it again") from None
            break
    sides = (settings.crop_size, settings.size, getattr(config, "image_size", None), getattr(config, "crop_size", None))
    side = next((found for value in sides if (found := _side(value))), None)
    if side is None:
        raise TeacherError(f"{folder} does not say its image size", hint="pass --image-size")
    return Preprocessing(image_size=side, mean=settings.image_mean, std=settings.image_std)


def _side(value: object) -> int | None:
    """Side of a square image from any of the ways configurations write it."""
    if isinstance(value, dict):
        value = value.get("height", value.get("shortest_edge"))
    if isinstance(value, (list, tuple)):
        value = value[0]
    return value if isinstance(value, int) else None


def _freeze(model: PreTrainedModel) -> PreTrainedModel:
    model.eval().requires_grad_(False)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own reports; ours say what matters, once."""
    level = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
