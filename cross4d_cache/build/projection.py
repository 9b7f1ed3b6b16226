"""The fixed linear map from teacher channels to target channels (paper, section 3.1): random, or the principal components."""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from cross4d_cache.errors import SettingsError
from cross4d_cache.store import ProjectionRecord
from cross4d_cache.store.digest import sha256_bytes


@dataclass(frozen=True, kw_only=True)
class Projection:
    """A matrix, or None where the features are kept as they are, and its entry in the manifest."""

    matrix: Float32[np.ndarray, "channel_in channel_out"] | None
    record: ProjectionRecord


class PrincipalComponents:
    """Gathers patch features and finds the directions in which they vary most, about their mean.

    The projection is onto these directions, without taking the mean away: centring targets belongs to the training objective.
    """

    def __init__(self, channels: int) -> None:
        self.num_rows = 0
        self._sum: Float64[np.ndarray, " channel"] = np.zeros(channels)
        self._products: Float64[np.ndarray, "channel channel"] = np.zeros((channels, channels))

    def add(self, features: Shaped[np.ndarray, "row channel"]) -> None:
        """Take in features."""
        exact = features.astype(np.float64)
        self.num_rows += len(exact)
        self._sum += exact.sum(axis=0)
        self._products += exact.T @ exact

    def directions(self, width: int) -> Float32[np.ndarray, "channel {width}"]:
        """Unit vectors as columns, the direction of greatest variance first; the largest entry of each is positive.

        Raises:
            SettingsError: fewer features than directions.
        """
        if self.num_rows <= width:
            raise SettingsError(
                f"{self.num_rows} patch features to fit {width} principal components on",
                expected=f"more than {width}",
                hint="build from more sequences, or pass `projection` random:CHANNELS",
            )
        mean = self._sum / self.num_rows
        _, vectors = np.linalg.eigh(self._products / self.num_rows - np.outer(mean, mean))
        chosen = vectors[:, ::-1][:, :width]
        largest = chosen[np.abs(chosen).argmax(axis=0), np.arange(width)]
        return np.asarray(chosen * np.sign(largest), dtype=np.float32)


def is_fitted(spec: str, channels: int) -> bool:
    """Whether the projection named by `spec` must be fitted on features of a teacher with `channels`."""
    kind, width = _parse(spec, channels)
    return kind == "pca" and channels > width


def make_projection(spec: str, channels: int, seed: int, fitted: Float32[np.ndarray, "channel_in channel_out"] | None = None) -> Projection:
    """The projection named by `random:CHANNELS`, `pca:CHANNELS` (with its `fitted` matrix) or `none` for a teacher with `channels`.

    Random entries are normal with variance 1 / CHANNELS, which keeps lengths and angles on average. Features that are no wider than
    CHANNELS are kept as they are: a projection would only enlarge the store.

    Raises:
        SettingsError: another spelling.
    """
    kind, width = _parse(spec, channels)
    if kind == "none" or channels <= width:
        return Projection(matrix=None, record=ProjectionRecord(kind="none", seed=seed, channels=channels, sha256=None))
    if kind == "pca":
        assert fitted is not None
        matrix = fitted
    else:
        matrix = (np.random.default_rng(seed).standard_normal((channels, width)) / np.sqrt(width)).astype(np.float32)
    record = ProjectionRecord(kind=kind, seed=seed, channels=width, sha256=sha256_bytes(matrix.tobytes()))
    return Projection(matrix=matrix, record=record)


def _parse(spec: str, channels: int) -> tuple[Literal["random", "pca", "none"], int]:
    """Kind and width of a projection."""
    match = re.fullmatch(r"(random|pca):([1-9]\d{0,4})", spec)
    if match is not None:
        return ("random" if match[1] == "random" else "pca"), int(match[2])
    if spec != "none":
        raise SettingsError(
            f"unknown projection {spec!r}",
            expected="random:CHANNELS or pca:CHANNELS, such as random:384, or none",
            hint="pass `projection`",
        )
    return "none", channels
