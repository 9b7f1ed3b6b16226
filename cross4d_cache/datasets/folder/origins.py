"""The origin that is subtracted from coordinates, in float64, before float32 loses what lies far from 0.

An origin is in the unit and axes of the files. `auto` finds one for each sequence, from its first frame.
"""

import math
import re
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float, Float32
from pydantic import AfterValidator

from cross4d_cache.errors import DatasetError

AUTO = "auto"
FAR = 1000.0
"""Metres from 0 beyond which `auto` moves a sequence: nearer, float32 tells 0.06 mm apart."""

GRID = 100.0
"""Metres between the origins that `auto` chooses among."""

STEPS = 4096
"""Steps of its coordinates that a frame far from 0 must have along its longest side: with fewer, a pixel holds one or none."""

MANY = 16
"""Points that do not lie within 1 / 2,000 of their distance by chance, whatever the unit."""

Point = tuple[float, float, float]


def _origin(text: str) -> str:
    if text != AUTO:
        parse(text)
    return text


Origin = Annotated[str, AfterValidator(_origin)]


def parse(text: str) -> Point:
    """The point that `X,Y,Z` names.

    Raises:
        ValueError: it names none.
    """
    number = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?"
    if not re.fullmatch(rf"{number}(,{number}){{2}}", text) or not all(map(math.isfinite, map(float, text.split(",")))):
        raise ValueError(f"{text[:80]!r} is neither auto nor the X,Y,Z of a point, in the files' unit and axes")
    x, y, z = map(float, text.split(","))
    return x, y, z


def find(points: Float[np.ndarray, "point 3"], metres_per_unit: float) -> Point | None:
    """The node of a grid next to the middle of some points if that is far from 0; None if it is near, or nowhere."""
    measured = points[np.isfinite(points).all(axis=1)].astype(np.float64)
    if not len(measured):
        return None
    middle = np.median(measured, axis=0)
    if np.linalg.norm(middle) * metres_per_unit <= FAR:
        return None
    step = GRID / metres_per_unit
    x, y, z = (float(round(value / step) * step) for value in middle)
    return x, y, z


def subtract(points: Float[np.ndarray, "point 3"], origin: Point | None) -> Float32[np.ndarray, "point 3"]:
    """Points about an origin, in float32. What that cannot hold becomes infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        moved = points if origin is None else points.astype(np.float64) - origin
        return moved.astype(np.float32, copy=False)


def check_steps(path: Path, points: Float[np.ndarray, "point 3"], moved: Float32[np.ndarray, "point 3"], metres_per_unit: float) -> None:
    """Whether the coordinates of a frame, as they are in its file and as they were moved, tell its points apart.

    Raises:
        DatasetError: they lie so far from 0 that they do not.
    """
    if len(points) < 2:
        return
    side = float(np.ptp(points.astype(np.float64), axis=0).max())
    held = ((points, "write the files with float64, or subtract an origin before you write them"),) if points.dtype == np.float32 else ()
    for values, hint in (*held, (moved, "pass `dataset.options` origin=auto, or origin=X,Y,Z, which is subtracted in float64")):
        largest = float(np.abs(values).max())
        step = float(np.spacing(np.float32(largest)))
        far = largest * metres_per_unit > FAR or (len(points) >= MANY and side > 0)
        if far and step * STEPS > side:
            raise DatasetError(
                f"{path}: coordinates up to {largest:g} in steps of {step:g}, as float32 has them, and no side longer than {side:.3g}",
                expected=f"at least {STEPS} steps along the longest side of a frame",
                hint=hint,
            )
