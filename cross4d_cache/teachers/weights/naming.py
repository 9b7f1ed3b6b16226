"""From the names that authors give the tensors of a vision transformer to those of transformers."""

import re
from collections.abc import Mapping

from torch import Tensor


def rename(state: dict[str, Tensor], rules: Mapping[str, str]) -> dict[str, Tensor]:
    """The same tensors; in their names every rule (a pattern and what replaces it) is applied, in order."""
    renamed = {}
    for old, tensor in state.items():
        name = old
        for pattern, replacement in rules.items():
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def split_rows(state: dict[str, Tensor], name: str, parts: tuple[str, ...]) -> dict[str, Tensor]:
    """The same tensors; each whose name contains `.NAME.` is cut along its rows into equal `parts`, in this order."""
    split: dict[str, Tensor] = {}
    for old, tensor in state.items():
        if f".{name}." in old and tensor.ndim:
            rows = tensor.tensor_split(len(parts))
            split |= {old.replace(f".{name}.", f".{part}."): piece for part, piece in zip(parts, rows, strict=True)}
        else:
            split[old] = tensor
    return split
