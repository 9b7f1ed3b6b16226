"""The fixed linear map from teacher channels to target channels (paper, section 3.1)."""

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from cross4d_cache.errors import SettingsError
from cross4d_cache.store import ProjectionRecord
from cross4d_cache.store.digest import sha256_bytes


@dataclass(frozen=True, kw_only=True)
class Projection:
    """A matrix, or None where the features are kept as they are, and its entry in the manifest."""

    matrix: Float32[np.ndarray, "channel_in channel_out"] | None
    record: ProjectionRecord


def make_projection(spec: str, channels: int, seed: int) -> Projection:
    """The projection named by `random:CHANNELS` or `none` for a teacher with `channels`.

    Random entries are normal with variance 1 / CHANNELS, which keeps lengths and angles on average. Features that are no wider than
    CHANNELS are kept as they are: a projection would only enlarge the store.

    Raises:
        SettingsError: another spelling.
    """
    match = re.fullmatch(r"random:([1-9]\d{0,4})", spec)
    if match is None and spec != "none":
        raise SettingsError(f"unknown projection {spec!r}", expected="random:CHANNELS, such as random:384, or none", hint="pass --project")
    width = int(match[1]) if match else channels
    if match is None or channels <= width:
        return Projection(matrix=None, record=ProjectionRecord(kind="none", seed=seed, channels=channels, sha256=None))
    matrix = (np.random.default_rng(seed).standard_normal((channels, width)) / np.sqrt(width)).astype(np.float32)
    return Projection(
        matrix=matrix, record=ProjectionRecord(kind="random", seed=seed, channels=width, sha256=sha256_bytes(matrix.tobytes()))
    )
