"""Students, by name."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from cross4d_cache.errors import SettingsError
from cross4d_train.encoders import p4transformer, point4d, pstnet
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.initialise import build_seeded

ENCODERS: dict[str, tuple[Callable[[Any], Encoder], Mapping[str, Any]]] = {
    "point4d": (point4d.Point4D, point4d.SIZES),
    "p4transformer": (p4transformer.P4Transformer, p4transformer.SIZES),
    "pstnet": (pstnet.PSTNet, pstnet.SIZES),
}
"""How each encoder is made from a configuration, and its configurations by size."""


def build_encoder(name: str, size: str, seed: int = 0) -> Encoder:
    """An untrained encoder; equal arguments give equal weights.

    Raises:
        SettingsError: unknown name or size.
    """
    if name not in ENCODERS:
        raise SettingsError(f"unknown encoder {name!r}", expected=f"one of: {', '.join(ENCODERS)}", hint="choose one with --encoder")
    make, sizes = ENCODERS[name]
    if size not in sizes:
        raise SettingsError(f"encoder {name} has no size {size!r}", expected=f"one of: {', '.join(sizes)}", hint="choose one with --size")
    return build_seeded(lambda: make(sizes[size]), seed)


def outline_encoder(name: str, size: str) -> Encoder:
    """An encoder of a name and size that exist, with the shapes of its weights and no numbers: what there is to count of it."""
    make, sizes = ENCODERS[name]
    with torch.device("meta"):
        return make(sizes[size])
