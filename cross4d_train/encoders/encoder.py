"""What a student is: a network from the points of a clip to tokens that keep their frame and their place (method section 2)."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float, Float32, Int64
from pydantic import Field
from torch import Tensor, nn

from cross4d_cache.options import parse_options
from cross4d_cache.record import Record

Depth = Annotated[int, Field(ge=1, le=1000)]
"""Blocks of an encoder; a configuration from elsewhere must not build for ever."""
Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Of radii and units, metres or in units that a configuration says."""

STANDARD = "paper"
"""The size that is taken where nobody says which."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The tokens of a batch of clips.

    `centroids` are input points in their original coordinates, metres; `frame` is the frame of the clip each was taken from.
    """

    features: Float[Tensor, "batch token channel"]
    centroids: Float32[Tensor, "batch token 3"]
    frame: Int64[Tensor, "batch token"]


class Encoder(nn.Module, ABC):
    """A student backbone.

    A clip's tokens depend on that clip alone, whatever else is in the batch, and on nothing random. Untrained, it is already a
    usable frozen encoder: no statistics to gather, activations of order one.
    """

    Config: ClassVar[type[Record]] = Record
    """Its configuration, which every checkpoint records: all that decides its shape and its numbers beside the weights."""
    sizes: ClassVar[Mapping[str, Record]] = {}
    """Configurations that have a name; one that has none comes in one size, `Config()`."""
    channels: int
    """Width of the token features."""
    reach: float | None = None
    """How far from a point its first layer looks for others, metres; None if at all of them."""

    def __init__(self, config: Record | None = None) -> None:
        super().__init__()
        self.config = self.Config() if config is None else config

    @classmethod
    def named_sizes(cls) -> Mapping[str, Record]:
        """Its configurations by name.

        Raises:
            SettingsError: there are none, and a configuration has no defaults.
        """
        return cls.sizes or {STANDARD: parse_options(cls.Config, {}, of=f"encoder {cls.__name__}, which has no sizes")}

    @abstractmethod
    def forward(self, points: Float32[Tensor, "batch frame point 3"]) -> Tokens:
        """Encode clips whose points are metres in any fixed frame of reference."""
