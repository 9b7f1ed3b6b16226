"""The safetensors files of a model folder: one, or several shards with an index."""

import json
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from cross4d_cache.errors import TeacherError
from cross4d_cache.patience import hint_for
from cross4d_cache.store.digest import sha256_bytes, sha256_file

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARDS = "model-*-of-*.safetensors"


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights of a model folder.

    Raises:
        TeacherError: there are none, or not all of them.
    """
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if not (folder / INDEX).is_file():
        others = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".pt", ".pth", ".msgpack", ".h5"))
        beside = f", but {others[0]}, which may hold code" if others else ""
        raise TeacherError(
            f"{folder} has no {WHOLE}{beside}",
            expected=f"{WHOLE}, or shards with {INDEX}",
            hint="save the model with model.save_pretrained(FOLDER)",
        )
    try:
        listed = json.loads((folder / INDEX).read_bytes())["weight_map"].values()
        # Names of files in this folder, and nothing that leads out of it.
        names = sorted({Path(str(name)).name for name in listed})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        hint = hint_for(error, "fetch it again")
        raise TeacherError(f"{folder / INDEX} cannot be read", expected="the index of a sharded model", hint=hint) from None
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        raise TeacherError(
            f"{folder} lacks {len(missing)} of {len(names)} shards, the first {next(iter(missing), None)}", hint="fetch them again"
        )
    return [folder / name for name in names]


def sha256_of(files: list[Path]) -> str:
    """The hash of one file; of several, that of the lines `HASH  NAME`, sorted by name, as `sha256sum` prints them."""
    if len(files) == 1:
        return sha256_file(files[0])
    return sha256_bytes("".join(f"{sha256_file(path)}  {path.name}\n" for path in files).encode())


def tensor_names(files: Iterable[Path]) -> set[str]:
    """Names of the tensors in some files; none of a file that cannot be read, which whoever loads it reports."""
    names: set[str] = set()
    for path in files:
        try:
            with safe_open(path, framework="pt") as held:
                names.update(held.keys())
        except (OSError, SafetensorError):
            continue
    return names


def read_tensors(files: Iterable[Path], wanted: Iterable[str]) -> dict[str, Tensor]:
    """Some tensors by name, in float32."""
    missing, found = set(wanted), {}
    for path in files:
        with safe_open(path, framework="pt") as held:
            for name in missing & set(held.keys()):
                found[name] = held.get_tensor(name).float()
    return found
