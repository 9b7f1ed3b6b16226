"""A depth sensor: one ray through the centre of every pixel, and the nearest surface it meets.

Exact visibility is the point: each pixel returns at most one point, and whatever lies behind is not seen. All frames of a window
are cast together with dense arithmetic on a small box of pixels per shape, which is what makes numpy fast enough.

Every surface is a quadric `(p - c)' G (p - c) = 1`: an ellipsoid, the end spheres of a capsule, or its open cylinder, limited along
the axis. A ray is `z * d` with `d = (x, y, 1)`, so its parameter is the depth. Written around the ray to the centre, `d = c / cz + e`
with `e = (ex, ey, 0)`, numbers stay small (float32 is enough) and the discriminant is a plain quadratic polynomial in `(ex, ey)`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64
from numpy.lib.stride_tricks import sliding_window_view

from cross4d_cache.datasets.synthetic.primitives import PosedPrimitives

WINDOW = 40
"""Frames cast together: enough to hide numpy's cost per call, few enough for the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Hits:
    """What the pixels see, ordered by frame, then row, then column. `depths` is z in metres."""

    frames: Int64[np.ndarray, " hit"]
    rows: Int64[np.ndarray, " hit"]
    columns: Int64[np.ndarray, " hit"]
    depths: Float32[np.ndarray, " hit"]
    primitives: Int64[np.ndarray, " hit"]


@dataclass(frozen=True, kw_only=True)
class _Quadrics:
    """The surfaces of a window of frames: of each ellipsoid one, of each capsule two spheres and an open cylinder.

    `primitives` says which shape each belongs to. Of a cylinder, only points within `half_lengths` of the centre along its axis
    count; for closed surfaces that is infinite. `low` and `high` bound x / z and y / z.
    """

    primitives: Int64[np.ndarray, " quadric"]
    centres: Float32[np.ndarray, "quadric frame 3"]
    forms: Float32[np.ndarray, "quadric frame 3 3"]
    axes: Float32[np.ndarray, "quadric frame 3"]
    half_lengths: Float32[np.ndarray, " quadric"]
    low: Float32[np.ndarray, "quadric frame 2"]
    high: Float32[np.ndarray, "quadric frame 2"]


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """A pinhole depth sensor at the origin: OpenCV axes, square image, `focal` in pixels, pixel centres at +0.5."""

    image_size: int
    focal: float

    @property
    def half_width(self) -> float:
        """Tangent of half the field of view: what lies within `|x| <= half_width * z` is in the image."""
        return self.image_size / (2 * self.focal)

    def tangents(self, pixels: Int64[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
        """The x / z (or y / z) of the rays through pixel columns (or rows)."""
        return ((pixels + 0.5 - self.image_size / 2) / self.focal).astype(np.float32)

    def cast(self, primitives: PosedPrimitives) -> Hits:
        """The nearest surface in every pixel of every frame; primitives are in sensor coordinates, all in front of it."""
        parts = [self._cast_window(primitives.window(start, start + WINDOW), start) for start in range(0, primitives.num_frames, WINDOW)]
        return Hits(
            frames=np.concatenate([part.frames for part in parts]),
            rows=np.concatenate([part.rows for part in parts]),
            columns=np.concatenate([part.columns for part in parts]),
            depths=np.concatenate([part.depths for part in parts]),
            primitives=np.concatenate([part.primitives for part in parts]),
        )

    def _cast_window(self, primitives: PosedPrimitives, first_frame: int) -> Hits:
        quadrics = _quadrics(primitives)
        corners, sizes = self._boxes(quadrics)
        # Only the part of the image that any box covers is kept.
        origin = corners.min(axis=(0, 1))
        columns, rows = (corners + sizes[:, None]).max(axis=(0, 1)) - origin
        depths = np.full((primitives.num_frames, rows, columns), np.inf, dtype=np.float32)
        owners = np.zeros(depths.shape, dtype=np.uint8)
        frames = np.arange(primitives.num_frames)
        for index, primitive in enumerate(quadrics.primitives):
            corner, (width, height) = corners[index], sizes[index]
            if width <= 0 or height <= 0:
                continue
            x = self.tangents(corner[:, :1] + np.arange(width))[:, None, :]
            y = self.tangents(corner[:, 1:] + np.arange(height))[:, :, None]
            candidate = _depths(quadrics, index, x, y)
            # A view of every window of this size; indexed by frame and corner, it reads and writes one box a frame.
            place = (frames, *(corner - origin).T[::-1])
            seen = sliding_window_view(depths, (height, width), axis=(1, 2), writeable=True)
            owned = sliding_window_view(owners, (height, width), axis=(1, 2), writeable=True)
            nearest = seen[place]
            owned[place] = np.where(candidate < nearest, np.uint8(primitive), owned[place])
            seen[place] = np.minimum(candidate, nearest)
        flat = np.flatnonzero(depths < np.inf)
        frame, row, column = np.unravel_index(flat, depths.shape)
        return Hits(
            frames=first_frame + frame,
            rows=origin[1] + row,
            columns=origin[0] + column,
            depths=depths.ravel()[flat],
            primitives=owners.ravel()[flat].astype(np.int64),
        )

    def _boxes(self, quadrics: _Quadrics) -> tuple[Int64[np.ndarray, "quadric frame 2"], Int64[np.ndarray, "quadric 2"]]:
        """Column and row of the first pixel in each frame, and one width and height that hold the surface in all of them."""
        centre = self.image_size / 2
        first = np.floor(quadrics.low * self.focal + centre - 0.5).astype(np.int64).clip(0, self.image_size)
        last = np.ceil(quadrics.high * self.focal + centre - 0.5).astype(np.int64).clip(-1, self.image_size - 1)
        sizes = (last - first + 1).max(axis=1)
        return np.minimum(first, self.image_size - sizes[:, None]), sizes


def _quadrics(primitives: PosedPrimitives) -> _Quadrics:
    capsules = np.flatnonzero(primitives.half_lengths > 0)
    owners = np.concatenate([np.arange(len(primitives.radii)), capsules, capsules])
    axes = primitives.rotations.swapaxes(0, 1)[owners]
    weights = (1 / np.square(primitives.radii[owners]))[:, None, None, :]
    half_lengths = np.full(len(owners), np.inf, dtype=np.float32)
    half_lengths[capsules] = primitives.half_lengths[capsules]
    # The first entry of a capsule is its cylinder, which does not curve along the axis; the two others are its end spheres.
    shapes = weights * np.ones((1, 1, 1, 3), dtype=np.float32)
    shapes[capsules, :, :, 2] = 0
    centres = primitives.centres.swapaxes(0, 1)[owners]
    ends = primitives.ends().swapaxes(0, 1)
    middle = len(primitives.radii)
    centres[middle:] = np.concatenate([ends[capsules, :, 0], ends[capsules, :, 1]])
    spread = (axes / weights) @ axes.swapaxes(2, 3)
    bounds = [_image_bounds(ends[owners, :, end], spread) for end in (0, 1)]
    low, high = np.minimum(bounds[0][0], bounds[1][0]), np.maximum(bounds[0][1], bounds[1][1])
    for end, place in enumerate((slice(middle, middle + len(capsules)), slice(middle + len(capsules), None))):
        low[place], high[place] = bounds[end][0][place], bounds[end][1][place]
    return _Quadrics(
        primitives=owners,
        centres=centres,
        forms=(axes * shapes) @ axes.swapaxes(2, 3),
        axes=axes[..., 2],
        half_lengths=half_lengths,
        low=low,
        high=high,
    )


def _image_bounds(
    centres: Float32[np.ndarray, "quadric frame 3"], spread: Float32[np.ndarray, "quadric frame 3 3"]
) -> tuple[Float32[np.ndarray, "quadric frame 2"], Float32[np.ndarray, "quadric frame 2"]]:
    """Smallest and largest x / z and y / z of an ellipsoid: the planes through the sensor that touch it.

    The plane x = k z touches where (cx - k cz)^2 = sxx - 2 k sxz + k^2 szz, a quadratic equation in k.
    """
    depth, across = centres[..., 2:], centres[..., :2]
    square = np.square(depth) - spread[..., 2:, 2]
    middle = across * depth - spread[..., :2, 2]
    constant = np.square(across) - spread[..., [0, 1], [0, 1]]
    root = np.sqrt(np.maximum(np.square(middle) - square * constant, 0))
    return (middle - root) / square, (middle + root) / square


def _depths(
    quadrics: _Quadrics, index: int, x: Float32[np.ndarray, "frame 1 column"], y: Float32[np.ndarray, "frame row 1"]
) -> Float32[np.ndarray, "frame row column"]:
    """Depth at which the rays of a box of pixels enter one surface, infinity where they miss it.

    With L = e'Gd0, Q = e'Ge and K = d0'Gd0, where d0 = c / cz: the depth beyond cz solves A t^2 + 2 B t + C = 0 with
    A = Q + 2 L + K, B = cz (Q + L), C = cz^2 Q - 1, and B^2 - A C = A - cz^2 (K Q - L^2).
    """
    form, z = quadrics.forms[index], quadrics.centres[index, :, 2, None, None]
    to_centre = quadrics.centres[index, :, :, None] / z
    pull = form @ to_centre
    level = (pull * to_centre).sum(axis=1, keepdims=True)
    bend = np.square(z) * (level * form - pull @ pull.swapaxes(1, 2))
    ex, ey = x - to_centre[:, :1], y - to_centre[:, 1:2]
    product = ex * ey
    linear = pull[:, :1] * ex + pull[:, 1:2] * ey
    both = _polynomial(form, ex, ey, product) + linear
    leading = both + linear
    leading += level
    # A ray along the axis of a cylinder would divide by zero; it is left to the end spheres.
    np.maximum(leading, np.float32(1e-9), out=leading)
    discriminant = leading - _polynomial(bend, ex, ey, product)
    missed = discriminant < 0
    root = np.sqrt(np.maximum(discriminant, 0, out=discriminant), out=discriminant)
    both *= z
    both += root
    both /= leading
    depth: Float32[np.ndarray, "frame row column"] = z - both
    if quadrics.half_lengths[index] < np.inf:
        axis = quadrics.axes[index, :, :, None]
        sideways = axis[:, :1] * ex + axis[:, 1:2] * ey
        # Along the axis from the centre: t (a'd) + cz (a'e), where t = depth - cz and a'd = a'd0 + a'e, hence
        along = depth * sideways - both * (axis * to_centre).sum(axis=1, keepdims=True)
        missed |= np.abs(along) > quadrics.half_lengths[index]
    depth[missed] = np.inf
    return depth


def _polynomial(
    form: Float32[np.ndarray, "frame 3 3"],
    ex: Float32[np.ndarray, "frame 1 column"],
    ey: Float32[np.ndarray, "frame row 1"],
    product: Float32[np.ndarray, "frame row column"],
) -> Float32[np.ndarray, "frame row column"]:
    """The quadratic form e'Fe for e = (ex, ey, 0), where F is `form` and `product` is ex * ey."""
    total: Float32[np.ndarray, "frame row column"] = (2 * form[:, :1, 1:2]) * product
    total += form[:, :1, :1] * np.square(ex) + form[:, 1:2, 1:2] * np.square(ey)
    return total
