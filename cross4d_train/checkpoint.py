"""One file a checkpoint: weights, head and optimizer state as safetensors, every setting as JSON beside them. No pickle.

The file appears under its name only when it is whole.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cross4d_cache.durable import write_durably
from cross4d_cache.errors import CheckpointError, OutputError
from cross4d_cache.patience import hint_for, is_there, patiently
from cross4d_cache.record import NewerRecordError, Record, RecordError
from cross4d_cache.store.digest import sha256_bytes
from cross4d_train.encoders import ENCODERS, configure_encoder, outline_encoder
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.settings import Origin, RunSettings

FORMAT_VERSION = 1
CHECKPOINT_FILE = "checkpoint.safetensors"
"""Its name in the folder of a run."""
METADATA_KEY = "cross4d_checkpoint"
CHECKSUM_KEY = "cross4d_checkpoint_sha256"
"""Metadata of the file: the record, and its hash, which release 0.1 did not write."""


class CheckpointRecord(Record):
    """What a checkpoint says of itself. `step` and `epoch` count what is finished, and with the settings they are all the
    state a loader has: the order of clips and the choice of points are pure functions of them."""

    format_version: int = FORMAT_VERSION
    settings: RunSettings
    origin: Origin
    encoder_config: dict[str, Any]
    step: int = Field(ge=0)
    epoch: int = Field(ge=0)
    num_steps: int = Field(ge=1)
    software: dict[str, str]

    @model_validator(mode="after")
    def _check_step(self) -> "CheckpointRecord":
        if self.step > self.num_steps:
            raise ValueError(f"step {self.step} of {self.num_steps}")
        return self


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint in memory. Tensors are named `encoder.*`, `objective.*` and `optimizer.*`."""

    record: CheckpointRecord
    tensors: Mapping[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors of one part, without its name."""
        return {key.removeprefix(f"{name}."): value for key, value in self.tensors.items() if key.startswith(f"{name}.")}

    def to_bytes(self) -> bytes:
        """The whole file; equal checkpoints give equal bytes."""
        record = self.record.model_dump_json()
        data = save(
            {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()},
            metadata={METADATA_KEY: record, CHECKSUM_KEY: sha256_bytes(record.encode())},
        )
        return _with_sorted_metadata(data)

    def save(self, path: Path) -> None:
        """Write the file; readers see the old or the new one, never a part.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            write_durably(path, self.to_bytes())
        except OSError as error:
            raise OutputError(
                f"cannot write {path}: {error.strerror}",
                expected="a folder that can be written to, with space left",
                hint="free some space or fix its permissions, then run the same command again",
            ) from None


def _with_sorted_metadata(data: bytes) -> bytes:
    """A safetensors file whose metadata are in order: safetensors writes them in any, and equal checkpoints shall be equal files."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text + data[end:]


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: missing, damaged, not a checkpoint, of a format version this release does not know, or not to be read now.
    """
    try:
        is_folder = patiently(path.is_dir)
        if is_folder or not is_there(path):
            what = "is a folder" if is_folder else "does not exist"
            raise CheckpointError(f"checkpoint {path} {what}", hint=f"pass the {CHECKPOINT_FILE} of a run")
        metadata, tensors = patiently(lambda: _read_file(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read ({error})",
            expected="a whole safetensors file",
            hint=hint_for(error, "copy it again, or go back to an earlier one"),
        ) from None
    return Checkpoint(record=_read_record(path, metadata), tensors=tensors)


def _read_file(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    path.open("rb").close()  # whose errors say which they are
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict


def _read_record(path: Path, metadata: Mapping[str, str]) -> CheckpointRecord:
    if METADATA_KEY not in metadata:
        raise CheckpointError(f"{path} is a safetensors file, but no checkpoint of cross4d", hint="pass the file of a run")
    text = metadata[METADATA_KEY]
    try:
        version = json.loads(text)["format_version"]
        if version == FORMAT_VERSION:
            if metadata.get(CHECKSUM_KEY, sha256_bytes(text.encode())) != sha256_bytes(text.encode()):
                raise ValueError("they differ from the ones that were written")
            return CheckpointRecord.from_json(text)
    except NewerRecordError as error:
        raise CheckpointError(
            f"checkpoint {path} was {error.found}", expected="settings that this release knows", hint="update cross4d"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"checkpoint {path}: its settings cannot be read ({str(error).splitlines()[0][:200]})",
            expected=f"settings of format version {FORMAT_VERSION}",
            hint="copy it again, or use the release that wrote it",
        ) from None
    raise CheckpointError(
        f"checkpoint {path} has format version {str(version)[:40]}",
        expected=f"version {FORMAT_VERSION}, the one this release reads",
        hint="update cross4d, or use the release that wrote it",
    )


def load_encoder(checkpoint: Checkpoint, known_as: str | None = None) -> Encoder:
    """The trained encoder of a checkpoint, built from the configuration that is recorded there, whatever its size means today.

    `known_as` names its class where that is another than the recorded one: a class that was given has the name of its module.

    Raises:
        CheckpointError: the configuration is none of this encoder's, or the weights do not fit it.
        SettingsError: this release has no encoder of that name.
    """
    name, weights = checkpoint.record.settings.encoder.name, checkpoint.part("encoder")
    if known_as not in (None, name) and ENCODERS.has(name):
        raise CheckpointError(f"the checkpoint has the encoder {name}, not {known_as}", hint="leave `encoder.name` out")
    kind = ENCODERS.find(known_as or name)
    try:
        config = kind.Config.from_json(json.dumps(checkpoint.record.encoder_config))
        if config.unknown:
            raise NewerRecordError(f"this release does not know {', '.join(config.unknown)[:200]}")
        # A configuration from elsewhere may ask for any amount of memory; its weights say how much there is.
        check_weights(outline_encoder(kind, config), weights, "encoder")
    except (RecordError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(
            f"encoder {name} cannot be built from the configuration in the checkpoint ({str(error).splitlines()[0][:200]})",
            expected="one that this release knows",
            hint="update cross4d, or use the release that wrote it",
        ) from None
    encoder = configure_encoder(kind, config)
    load_weights(encoder, weights, "encoder")
    return encoder


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Copy weights into a module that must have exactly these.

    Raises:
        CheckpointError: see `check_weights`.
    """
    check_weights(module, weights, what)
    with torch.no_grad():
        module.load_state_dict(dict(weights))


def check_weights(module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """See whether weights are those of a module, which may be one without numbers.

    Raises:
        CheckpointError: weights are missing, left over, of another shape, or no weights: integers, NaN or infinities.
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
        "of another kind": [
            f"{name} {_kind(weights[name])} instead of {_kind(own[name])}"
            for name in own
            if name in weights and weights[name].is_floating_point() != own[name].is_floating_point()
        ],
        "not finite": [name for name in own if name in weights and not bool(weights[name].to(own[name].dtype).isfinite().all())],
    }
    found = "; ".join(f"{problem}: {_some(names)}" for problem, names in problems.items() if names)
    if found:
        raise CheckpointError(
            f"the checkpoint does not fit the {what}: {found}",
            hint="use the encoder, size and objective it was made with; numbers that are not finite are those of a run that failed",
        )


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
