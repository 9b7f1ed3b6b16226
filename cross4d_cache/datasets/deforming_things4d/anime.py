"""`.anime` files: a mesh whose vertices move.

Little-endian, nothing but numbers: int32 frames, vertices, triangles; float32 vertices of frame 0; int32 triangles; float32 offsets
of the vertices in frames 1 and on, each **relative to frame 0** (rabbityl/DeformingThings4D, README.md).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from cross4d_cache.datasets.looking import look_at
from cross4d_cache.errors import DatasetError

HEADER_BYTES = 12
_AGAIN = "fetch the file again, or move its folder out of the way"


@dataclass(frozen=True)
class AnimeFile:
    """An `.anime` file whose size fits its header."""

    path: Path
    num_frames: int
    num_vertices: int
    num_triangles: int

    @property
    def _triangles_at(self) -> int:
        return HEADER_BYTES + 12 * self.num_vertices

    def triangles(self) -> Int64[np.ndarray, "triangle 3"]:
        """Vertex numbers of every triangle.

        Raises:
            DatasetError: a number that no vertex has.
        """
        corners = self._read("<i4", self._triangles_at, self.num_triangles).astype(np.int64)
        wrong = (corners < 0) | (corners >= self.num_vertices)
        if wrong.any():
            place = int(wrong.ravel().argmax())
            raise DatasetError(
                f"{self.path}: a triangle names vertex {corners.ravel()[place]}, at byte {self._triangles_at + 4 * place}",
                expected=f"numbers below {self.num_vertices}, as many vertices as there are",
                hint=_AGAIN,
            )
        return corners

    def vertices(self, frame: int) -> Float32[np.ndarray, "vertex 3"]:
        """The vertices of one frame, in the file's unit and axes.

        Raises:
            DatasetError: a coordinate that is not finite.
        """
        start = self._coordinates(HEADER_BYTES)
        if frame == 0:
            return start
        offsets_at = self._triangles_at + 12 * self.num_triangles
        offsets = self._coordinates(offsets_at + 12 * self.num_vertices * (frame - 1))
        with np.errstate(all="ignore"):  # damaged files hold any number
            moved: Float32[np.ndarray, "vertex 3"] = start + offsets
        return moved

    def _coordinates(self, offset: int) -> Float32[np.ndarray, "vertex 3"]:
        values = self._read("<f4", offset, self.num_vertices)
        finite = np.isfinite(values)
        if not finite.all():
            place = int(finite.ravel().argmin())
            raise DatasetError(
                f"{self.path}: a coordinate is {values.ravel()[place]}, at byte {offset + 4 * place}",
                expected="finite numbers",
                hint=_AGAIN,
            )
        return values

    def _read(self, dtype: str, offset: int, rows: int) -> np.ndarray:
        values = look_at(self.path, lambda: np.fromfile(self.path, dtype, count=3 * rows, offset=offset), _AGAIN)
        if len(values) < 3 * rows:
            raise DatasetError(
                f"{self.path}: ends before byte {offset + 12 * rows}", hint="it changed meanwhile; run the same command again"
            )
        return values.reshape(rows, 3)


def open_anime(path: Path) -> AnimeFile:
    """The header of an `.anime` file, checked against the size of the file.

    Raises:
        DatasetError: the header does not account for the bytes of the file.
    """
    size = look_at(path, path.stat, _AGAIN).st_size
    header = look_at(path, lambda: np.fromfile(path, "<i4", count=3), _AGAIN)
    if len(header) < 3:
        raise DatasetError(f"{path}: ends inside its header, after {size} bytes", expected=f"at least {HEADER_BYTES} bytes", hint=_AGAIN)
    frames, vertices, triangles = (int(count) for count in header)
    needed = 12 * (1 + frames * vertices + triangles)
    if min(frames, vertices, triangles) < 1 or size != needed:
        raise DatasetError(
            f"{path}: the header promises {frames} frames of {vertices} vertices and {triangles} triangles, the file ends at byte {size}",
            expected=f"{needed} bytes, and at least one of each",
            hint="the file is truncated or not an .anime file; " + _AGAIN,
        )
    return AnimeFile(path, frames, vertices, triangles)
