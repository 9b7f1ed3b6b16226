"""What worse sensors do to clips: fewer frames, fewer points, noise (table 13 of the paper)."""

from typing import Literal

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Tensor

from cross4d_cache.record import Record

FEWER_FRAMES = (1.0, 0.75, 0.5, 0.25)
"""Shares of a clip's frames: 24, 18, 12 and 6 of 24."""
FEWER_POINTS = (1.0, 0.75, 0.5, 0.25)
JITTER = (0.0, 0.01, 0.02, 0.05)
"""Metres."""


class Corruption(Record):
    """One kind of damage. `level` is the share that is left of frames (evenly spaced ones, so that motion looks faster) or of the
    points of every frame (random ones), or the deviation of Gaussian noise in metres.
    """

    kind: Literal["frames", "points", "jitter"]
    level: float = Field(ge=0, le=1)

    @property
    def is_clean(self) -> bool:
        """Whether it leaves clips as they are."""
        return self.level == (0 if self.kind == "jitter" else 1)

    def apply(
        self, points: Float32[Tensor, "batch frame point 3"], generator: torch.Generator
    ) -> Float32[Tensor, "batch left_frame left_point 3"]:
        """Damaged clips; what is random in it comes from a generator of the CPU."""
        if self.is_clean:
            return points
        if self.kind == "jitter":
            return points + self.level * torch.randn(points.shape, generator=generator).to(points.device)
        if self.kind == "frames":
            left = max(1, round(self.level * points.shape[1]))
            # The middle of each of `left` equal stretches of the clip.
            return points[:, torch.arange(left).add(0.5).mul(points.shape[1] / left).long()]
        left = max(1, round(self.level * points.shape[2]))
        order = torch.rand(points.shape[:3], generator=generator).argsort(dim=-1)[..., :left]
        return points.gather(2, order.to(points.device).unsqueeze(-1).expand(-1, -1, -1, 3))

    def __str__(self) -> str:
        if self.is_clean:
            return "clean"
        return f"jitter {self.level:g} m" if self.kind == "jitter" else f"{self.level:.0%} of {self.kind}"


CORRUPTIONS = (
    *(Corruption(kind="frames", level=level) for level in FEWER_FRAMES),
    *(Corruption(kind="points", level=level) for level in FEWER_POINTS),
    *(Corruption(kind="jitter", level=level) for level in JITTER),
)
"""Table 13, the clean clips of every kind included."""
