"""The part of space that a reader keeps: a range of distances from the origin, and a box."""

import re
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float32
from pydantic import AfterValidator

NUMBER = r"-?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,2})?"


def _range(text: str) -> str:
    if not re.fullmatch(rf"{NUMBER},{NUMBER}", text) or not 0 <= float(text.split(",")[0]) < float(text.split(",")[1]):
        raise ValueError(f"{text[:80]!r} is not MIN,MAX, metres from the origin, such as 0.5,60")
    return text


def _box(text: str) -> str:
    sides = np.array([float(side) for side in text.split(",")]) if re.fullmatch(rf"{NUMBER}(,{NUMBER}){{5}}", text) else np.zeros(6)
    if (sides[::2] >= sides[1::2]).any():
        raise ValueError(
            f"{text[:80]!r} is not LEFT,RIGHT,TOP,BOTTOM,NEAR,FAR, metres along right, down and forward, such as -5,5,-3,1,0,20"
        )
    return text


Range = Annotated[str, AfterValidator(_range)]
Box = Annotated[str, AfterValidator(_box)]


@dataclass(frozen=True)
class Volume:
    """What `range` and `box` leave, metres, OpenCV axes; all of space without them. Edges are inside."""

    range: str | None
    box: str | None

    def holds(self, points: Float32[np.ndarray, "point 3"]) -> Bool[np.ndarray, " point"]:
        """Which points lie in it."""
        held = np.ones(len(points), dtype=bool)
        exact = points.astype(np.float64)
        if self.range is not None:
            nearest, farthest = map(float, self.range.split(","))
            distance = np.linalg.norm(exact, axis=1)
            held &= (distance >= nearest) & (distance <= farthest)
        if self.box is not None:
            sides = np.array([float(side) for side in self.box.split(",")])
            held &= ((exact >= sides[::2]) & (exact <= sides[1::2])).all(axis=1)
        return held
