"""Students, by name."""

from collections.abc import Mapping
from typing import Any

import torch

from cross4d_cache.record import Record
from cross4d_cache.registry import look_up
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
    return configure_encoder(kind, look_up(sizes, size, what=f"{name} size", setting="encoder.size"), seed)


def configure_encoder(kind: type[Encoder], config: Record, seed: int = 0) -> Encoder:
    """An untrained encoder of this configuration, whether a size has it or not."""
    return build_seeded(lambda: kind(config), seed)


def find_encoder(name: str) -> tuple[type[Encoder], Mapping[str, Any]]:
    """An encoder and its sizes.

    Raises:
        SettingsError: unknown name.
    """
    return look_up(ENCODERS, name, what="encoder", setting="encoder.name")


def outline_encoder(kind: type[Encoder], config: Record) -> Encoder:
    """The shapes of an encoder's weights without numbers: what there is to count of it, and to compare weights with."""
    with torch.device("meta"):
        return kind(config)
