"""How densely the points of a sequence lie in its images."""

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt32

from cross4d_cache.rendering.repeats import first_at_place
from cross4d_cache.types import RenderSettings

DENSITY_FRAMES = 8
"""Frames of a sequence that are looked at to learn how densely its points lie."""

Rows = list[Int64[np.ndarray, " _"]]
"""Of each frame that is looked at, those of its points that count."""


def counted_rows(
    points: Float32[np.ndarray, "point 3"],
    point_offsets: Int64[np.ndarray, " boundary"],
    settings: RenderSettings,
    framed: Bool[np.ndarray, " point"] | None = None,
) -> Rows:
    """The points that tell how densely a sequence is sampled: of some frames those that are `framed`, each place once.

    With the density of release 0.1, every row counts.
    """
    num_frames = len(point_offsets) - 1
    chosen = np.unique(np.linspace(0, num_frames - 1, min(num_frames, DENSITY_FRAMES)).astype(int))
    found = []
    for start, stop in zip(point_offsets[chosen], point_offsets[chosen + 1], strict=True):
        counted = np.ones(stop - start, dtype=bool) if settings.density == "rows" else first_at_place(points[start:stop])
        if framed is not None:
            counted &= framed[start:stop]
        found.append(start + np.flatnonzero(counted))
    return found


def is_tracked(surface_ids: UInt32[np.ndarray, " point"] | None, point_offsets: Int64[np.ndarray, " boundary"]) -> bool:
    """Whether all frames of a sequence have the same points, moved."""
    counts = np.diff(point_offsets)
    if surface_ids is None or len(counts) < 2 or (counts != counts[0]).any():
        return False
    ids = surface_ids.reshape(len(counts), -1)
    return bool((ids == ids[0]).all())


def splat_size(pixels: list[Float64[np.ndarray, "_ 2"]], settings: RenderSettings, *, scanned: bool = False, tracked: bool = False) -> int:
    """Smallest odd side, in z-buffer cells, of squares that close the gaps between the points of a surface, given by those of some frames.

    A gap is an empty square between four occupied ones. Only every third point counts, as many may lie on the far side of the
    subject. Points `scanned` from the camera's own place count all, and come in lines: there, two occupied squares at opposite
    sides make a gap. Measured on some frames; one size for the sequence, so that images do not flicker. `tracked` points are one
    sample in all frames, a gap of one is a gap of all: there, each third has to close its gaps.
    """
    step = 1 if scanned else 3
    side = settings.image_size * settings.supersampling
    frames = [(frame * settings.supersampling).astype(np.int64) for frame in pixels]
    samples = [[cells[start::step] for cells in frames] for start in range(step if tracked else 1)]
    sizes = range(3, side // 8, 2)
    for size in sizes:
        if all(_closes(sample, size, side, settings.gap_share, scanned) for sample in samples):
            return size
    return max(sizes, default=3)


def _closes(frames: list[Int64[np.ndarray, "_ 2"]], size: int, side: int, gap_share: float, scanned: bool) -> bool:
    """Whether squares of some size leave hardly a gap between the points of some frames, given by their cells."""
    image = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
    column, row = np.concatenate(frames).T
    occupied = np.zeros((len(frames), side // size + 3, side // size + 3), dtype=bool)
    occupied[image, row // size + 1, column // size + 1] = True
    above, below = occupied[:, :-2, 1:-1], occupied[:, 2:, 1:-1]
    left, right = occupied[:, 1:-1, :-2], occupied[:, 1:-1, 2:]
    between = (above & below) | (left & right) if scanned else above & below & left & right
    gaps = ~occupied[:, 1:-1, 1:-1] & between
    # Where squares hold hardly more than a point each, they are too small to tell a gap from the background.
    return bool(len(image) >= 2 * occupied.sum() and gaps.sum() <= gap_share * occupied.sum())
