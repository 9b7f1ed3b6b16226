"""Checkpoint files as the authors of a model publish them (.pth, .pt), or one safetensors file.

Nothing in them is executed: the unpickler knows tensors, numbers and containers only.
"""

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from cross4d_cache.errors import TeacherError
from cross4d_cache.patience import hint_for
from cross4d_cache.teachers.weights.files import sha256_of
from cross4d_cache.teachers.weights.model import LoadedModel, check_numbers, first_line
from cross4d_cache.teachers.weights.source import Original, WeightSource

WRAPPERS = r"(?:(?:module|backbone)\.)+"
"""What distributed training and the authors' wrappers put before every name."""

NAMED = 3
"""So many tensors are named of each kind that does not fit."""


def load_checkpoint(files: list[Path], source: WeightSource) -> LoadedModel:
    """A model with the weights of a file, or of the shards of one, in which tensors are named as by its authors or as in transformers.

    Raises:
        TeacherError: no checkpoint, one that needs code to be read, or one whose tensors are not those of the teacher's model.
    """
    path = files[0] if len(files) == 1 else files[0].parent
    with no_init_weights():
        model = source.build(source.variant)
    needed = _shapes(model, source)
    held = _state(path, files, source.original)
    state = {name: value for name, value in held.items() if not re.fullmatch(source.original.ignored, name)}
    # The mapped file stays unread where names do not fit.
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not needed.keys() <= tensors.keys():
        tensors = source.original.rename(tensors)
    problems = _problems(tensors, needed, set(model.state_dict()))
    strangers = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if strangers:
        problems.append(f"{len(strangers)} entries that are no tensors ({_named(strangers)})")
    if problems:
        raise _misfit(path, source, tensors, problems)
    # Only what features do not need may be absent here.
    model.load_state_dict(tensors, strict=False)
    check_numbers(model, str(path), set(model.state_dict()) - needed.keys())
    preprocessing = replace(source.preprocessing, normalisation=source.normalisation(held, path.name))
    return LoadedModel(model=model, preprocessing=preprocessing, label=path.name, revision=None, sha256=sha256_of(files))


def _state(path: Path, files: list[Path], original: Original) -> dict[str, Any]:
    """The entries of the model in a file, by the authors' names, less what wraps them."""
    held = _read(path) if len(files) == 1 else {name: value for file in files for name, value in _read(file).items()}
    state: Any = held
    if isinstance(held, Mapping):
        state = next((held[entry] for entry in original.entries if isinstance(held.get(entry), Mapping)), held)
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        holds = f"the entries {_named(state)}" if isinstance(state, Mapping) and state else f"a {type(state).__name__}"
        inside = f", alone or as entry {' or '.join(original.entries)}" if original.entries else ""
        raise TeacherError(
            f"{path} holds {holds} and no tensors",
            expected=f"a dict of tensors by name{inside}",
            hint="pass the checkpoint file of the model itself",
        )
    return {re.sub(f"^{WRAPPERS}", "", str(name)): value for name, value in state.items()}


def _read(path: Path) -> Any:
    hint = "fetch it again, or pass a folder in transformers' layout"
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        # Some authors store their command line as well; a namespace is a container without code of its own.
        with torch.serialization.safe_globals([argparse.Namespace]):
            # Zip archives can be mapped: optimisers and predictors beside the model are never read.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        found = f"{path} needs code ({code[1]}) to be read, which is not run" if code else f"{path} is no checkpoint of torch, or damaged"
        raise TeacherError(found, expected="a file that holds tensors, numbers and containers only", hint=hint) from None
    except OSError as error:
        raise TeacherError(f"{path} cannot be read: {first_line(error)}", hint=hint_for(error, hint)) from None
    except Exception:  # damaged bytes may fail anywhere in the reader
        raise TeacherError(f"{path} is no checkpoint of torch, or damaged", hint=hint) from None


def _shapes(model: PreTrainedModel, source: WeightSource) -> dict[str, torch.Size]:
    """Shapes of the tensors that features need."""
    return {name: tensor.shape for name, tensor in model.state_dict().items() if not re.fullmatch(source.unused, name)}


def _problems(tensors: dict[str, Tensor], needed: dict[str, torch.Size], known: set[str]) -> list[str]:
    """What keeps tensors from fitting a model, by kind."""
    missing = [name for name in needed if name not in tensors]
    surplus = [name for name in tensors if name not in known]
    misshaped = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(shape)}"
        for name, shape in needed.items()
        if name in tensors and tensors[name].shape != shape
    ]
    kinds = {"missing": missing, "surplus": surplus, "of another shape": misshaped}
    return [f"{len(names)} tensors {kind} ({_named(names)})" for kind, names in kinds.items() if names]


def _misfit(path: Path, source: WeightSource, tensors: dict[str, Tensor], problems: list[str]) -> TeacherError:
    """The error for tensors that do not fit; it tells the variant that they do fit."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    for variant in source.variants:
        with torch.device("meta"):
            needed = _shapes(source.build(variant), source)
        if needed.items() <= shapes.items() and variant != source.variant:
            return TeacherError(f"{path} holds the weights of {variant}, not of {source.variant}", hint=f"pass `teacher.name` {variant}")
    return TeacherError(
        f"{path} does not fit {source.variant}: {'; '.join(problems)}",
        expected=f"a checkpoint of {source.variant}, named as by its authors or as in transformers",
        hint="choose the teacher that fits, or pass a folder in transformers' layout",
    )


def _named(names: Any) -> str:
    """The first few of some names."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:NAMED]) + (", ..." if len(listed) > NAMED else "")
