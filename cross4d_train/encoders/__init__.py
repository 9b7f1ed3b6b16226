"""Students, by name."""

from collections.abc import Mapping
from typing import Any

import torch

from cross4d_cache.options import change
from cross4d_cache.record import Record
from cross4d_cache.registry import Components, look_up
from cross4d_train.encoders.encoder import STANDARD, Encoder
from cross4d_train.encoders.p4transformer import P4Transformer
from cross4d_train.encoders.point4d import Point4D
from cross4d_train.encoders.pstnet import PSTNet
from cross4d_train.initialise import build_seeded

ENCODERS = Components[Encoder]("encoder", Encoder, {"point4d": Point4D, "p4transformer": P4Transformer, "pstnet": PSTNet})


def build_encoder(name: str, size: str = STANDARD, seed: int = 0, options: Mapping[str, Any] | None = None) -> Encoder:
    """An untrained encoder; equal arguments give equal weights.

    Raises:
        SettingsError: unknown name, size or option.
    """
    return configure_encoder(*find_config(name, size, options or {}), seed)


def find_config(name: str, size: str, options: Mapping[str, Any]) -> tuple[type[Encoder], Record]:
    """An encoder and its configuration: that of a size, some of its settings replaced by dotted name.

    Raises:
        SettingsError: unknown name, size or option.
    """
    kind = ENCODERS.find(name)
    config = look_up(kind.named_sizes(), size, what=f"{name} size", setting="encoder.size")
    return kind, change(config, options)


def configure_encoder(kind: type[Encoder], config: Record, seed: int = 0) -> Encoder:
    """An untrained encoder of this configuration, whether a size has it or not."""
    return build_seeded(lambda: kind(config), seed)


def outline_encoder(kind: type[Encoder], config: Record) -> Encoder:
    """The shapes of an encoder's weights without numbers: what there is to count of it, and to compare weights with."""
    with torch.device("meta"):
        return kind(config)
