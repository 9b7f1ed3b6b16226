"""The `.skeleton` text files: the bodies that the sensor tracked, with every joint in metres and in pixels of both its images.

A line with the number of frames; for each frame a line with the number of bodies; for each body a line of ten fields that begins with
its id, a line with the number of joints, and for each joint a line of twelve numbers (https://github.com/shahroudy/NTURGB-D,
`read_skeleton_file.m`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from cross4d_cache.datasets.looking import look_at
from cross4d_cache.errors import DatasetError

LARGEST_BYTES = 1 << 26
NUM_JOINTS = 25


@dataclass(frozen=True)
class Body:
    """One body in one frame.

    `joints` are the columns x y z (metres; x right, y up, z forward), column and row in the depth image, column and row in the colour
    image (pixels), the quaternion w x y z, and how the joint was found: 2 seen, 1 inferred, 0 not at all. `id` is text because it
    exceeds what a float64 holds.
    """

    id: str
    joints: Float64[np.ndarray, "joint 12"]


def read_skeleton(path: Path) -> list[list[Body]]:
    """The bodies of each frame; there may be none.

    Raises:
        DatasetError: the file is missing, cut off, or not of this format, naming the line.
    """
    hint = "fetch the file again"
    size = look_at(path, path.stat, hint).st_size
    if size > LARGEST_BYTES:
        raise DatasetError(f"{path}: {size} bytes", expected=f"a text of at most {LARGEST_BYTES}", hint=hint)
    lines = _Lines(look_at(path, lambda: path.read_text(encoding="latin1"), hint).splitlines())
    try:
        frames = [[_body(lines) for _ in lines.count()] for _ in lines.count()]
        if lines.rest():
            raise ValueError("more text follows after the last frame")
    except ValueError as error:
        raise DatasetError(
            f"{path}: line {lines.number}: {error}; the file ends at byte {size}",
            expected="an NTU RGB+D .skeleton file",
            hint="fetch the file again, or pass `dataset.options` intrinsics=constants, which does without skeletons",
        ) from None
    return frames


class _Lines:
    """The lines from the first on; `number` is that of the last one given out."""

    def __init__(self, lines: list[str]) -> None:
        self._lines, self.number = lines, 0

    def fields(self, count: int) -> list[str]:
        if self.number == len(self._lines):
            raise ValueError("the text ends where another line belongs")
        self.number += 1
        fields = self._lines[self.number - 1].split()
        if len(fields) != count:
            raise ValueError(f"{len(fields)} fields where {count} belong")
        return fields

    def count(self) -> Iterator[int]:
        """As many steps as the next line says; no more than there are lines are begun."""
        [field] = self.fields(1)
        if not field.isascii() or not field.isdigit() or len(field) > 9:
            raise ValueError(f"{field[:20]!r} where a number of things belongs")
        return iter(range(int(field)))

    def rest(self) -> bool:
        return any(line.strip() for line in self._lines[self.number :])


def _body(lines: _Lines) -> Body:
    name = lines.fields(10)[0]
    if lines.fields(1) != [str(NUM_JOINTS)]:
        raise ValueError(f"a body that has not {NUM_JOINTS} joints")
    return Body(name, np.array([[_number(field) for field in lines.fields(12)] for _ in range(NUM_JOINTS)]))


def _number(field: str) -> float:
    return float("nan" if "#" in field else field)  # Windows prints what is no number as "-1.#IND"
