"""Students, by name."""

from collections.abc import Mapping
from typing import Any

from cross4d_cache.errors import SettingsError
from cross4d_cache.record import Record
from cross4d_train.encoders import p4transformer, point4d, pstnet
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.initialise import build_seeded

ENCODERS: dict[str, tuple[type[Encoder], Mapping[str, Any]]] = {
    "point4d": (point4d.Point4D, point4d.SIZES),
    "p4transformer": (p4transformer.P4Transformer, p4transformer.SIZES),
    "pstnet": (pstnet.PSTNet, pstnet.SIZES),
}
"""Each encoder, and its configurations by size."""


def build_encoder(name: str, size: str, seed: int = 0) -> Encoder:
    """An untrained encoder; equal arguments give equal weights.

    Raises:
        SettingsError: unknown name or size.
    """
    kind, sizes = find_encoder(name)
    if size not in sizes:
        raise SettingsError(f"encoder {name} has no size {size!r}", expected=f"one of: {', '.join(sizes)}", hint="choose one with --size")
    return configure_encoder(kind, sizes[size], seed)


def configure_encoder(kind: type[Encoder], config: Record, seed: int = 0) -> Encoder:
    """An untrained encoder of this configuration, whether a size has it or not."""
    return build_seeded(lambda: kind(config), seed)


def find_encoder(name: str) -> tuple[type[Encoder], Mapping[str, Any]]:
    """An encoder and its sizes.

    Raises:
        SettingsError: unknown name.
    """
    if name not in ENCODERS:
        raise SettingsError(f"unknown encoder {name!r}", expected=f"one of: {', '.join(ENCODERS)}", hint="choose one with --encoder")
    return ENCODERS[name]
