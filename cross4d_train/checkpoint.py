"""One file a checkpoint: weights, head and optimizer state as safetensors, every setting as JSON beside them. No pickle.

The file appears under its name only when it is whole.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cross4d_cache.errors import CheckpointError, OutputError
from cross4d_cache.store.digest import write_durably
from cross4d_train.encoders import ENCODERS, build_encoder
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.settings import EncoderSettings, Origin, RunSettings

FORMAT_VERSION = 1
METADATA_KEY = "cross4d_checkpoint"


class CheckpointRecord(BaseModel):
    """What a checkpoint says of itself. `step` and `epoch` count what is finished, and with the settings they are all the
    state a loader has: the order of clips and the choice of points are pure functions of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    settings: RunSettings
    origin: Origin
    encoder_config: dict[str, Any]
    step: int
    epoch: int
    num_steps: int
    software: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint in memory. Tensors are named `encoder.*`, `objective.*` and `optimizer.*`."""

    record: CheckpointRecord
    tensors: Mapping[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors of one part, without its name."""
        return {key.removeprefix(f"{name}."): value for key, value in self.tensors.items() if key.startswith(f"{name}.")}

    def save(self, path: Path) -> None:
        """Write the file; readers see the old or the new one, never a part.

        Raises:
            OutputError: it cannot be written.
        """
        data = save(
            {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()},
            metadata={METADATA_KEY: self.record.model_dump_json()},
        )
        try:
            write_durably(path, data)
        except OSError as error:
            raise OutputError(
                f"cannot write {path}: {error.strerror}",
                expected="a folder that can be written to, with space left",
                hint="free some space or mend its permissions; --resume goes on",
            ) from None


def encoder_config(settings: EncoderSettings) -> dict[str, Any]:
    """The configuration behind a named size, as JSON."""
    config: dict[str, Any] = json.loads(json.dumps(asdict(ENCODERS[settings.name][1][settings.size])))
    return config


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: missing, damaged, not a checkpoint, or of a format version this release does not know.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(f"checkpoint {path} {what}", hint="pass the checkpoint.safetensors of a run")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read ({error})",
            expected="a whole safetensors file",
            hint="copy it again, or go back to an earlier one",
        ) from None
    return Checkpoint(record=_read_record(path, metadata), tensors=tensors)


def _read_record(path: Path, metadata: Mapping[str, str]) -> CheckpointRecord:
    if METADATA_KEY not in metadata:
        raise CheckpointError(f"{path} is a safetensors file, but no checkpoint of cross4d", hint="pass the file of a run")
    try:
        fields = json.loads(metadata[METADATA_KEY])
        version = fields["format_version"]
        if version == FORMAT_VERSION:
            return CheckpointRecord.model_validate(fields)
    except (ValueError, KeyError, TypeError, ValidationError, RecursionError) as error:
        raise CheckpointError(
            f"checkpoint {path}: its settings cannot be read ({str(error).splitlines()[0][:200]})",
            expected=f"settings of format version {FORMAT_VERSION}",
            hint="copy it again, or use the release that wrote it",
        ) from None
    raise CheckpointError(
        f"checkpoint {path} has format version {str(version)[:40]}",
        expected=f"version {FORMAT_VERSION}, the one this release reads",
        hint="update cross4d, or train again",
    )


def load_encoder(checkpoint: Checkpoint) -> Encoder:
    """The trained encoder of a checkpoint.

    Raises:
        CheckpointError: its weights do not fit the encoder of that name and size.
    """
    settings = checkpoint.record.settings.encoder
    encoder = build_encoder(settings.name, settings.size)
    if encoder_config(settings) != checkpoint.record.encoder_config:
        raise CheckpointError(
            f"size {settings.size!r} of encoder {settings.name} is not what it was when the checkpoint was written",
            expected=f"{checkpoint.record.encoder_config}",
            hint="use the release that wrote it",
        )
    load_weights(encoder, checkpoint.part("encoder"), "encoder")
    return encoder


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Copy weights into a module that must have exactly these.

    Raises:
        CheckpointError: weights are missing, left over, or of another shape.
    """
    own = module.state_dict()
    problems = {
        "missing": sorted(own.keys() - weights.keys()),
        "not known": sorted(weights.keys() - own.keys()),
        "of another shape": [
            f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own
            if name in weights and weights[name].shape != own[name].shape
        ],
    }
    found = "; ".join(f"{problem}: {_some(names)}" for problem, names in problems.items() if names)
    if found:
        raise CheckpointError(
            f"the checkpoint does not fit the {what}: {found}",
            hint="use the encoder, size and objective it was made with",
        )
    with torch.no_grad():
        module.load_state_dict(dict(weights))


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
