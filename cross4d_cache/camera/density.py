"""How densely the points of a sequence lie in its images."""

import numpy as np
from jaxtyping import Float64, Int64

from cross4d_cache.types import RenderSettings

DENSITY_FRAMES = 8
"""Frames of a sequence that are looked at to learn how densely its points lie."""


def splat_size(
    pixels: Float64[np.ndarray, "point 2"], point_offsets: Int64[np.ndarray, " boundary"], settings: RenderSettings, *, scanned: bool
) -> int:
    """Smallest odd side, in z-buffer cells, of squares that close the gaps between the points of a surface.

    A gap is an empty square between four occupied ones. Only every third point counts, as many may lie on the far side of the
    subject. Points `scanned` from the camera's own place count all, and come in lines: there, two occupied squares at opposite
    sides make a gap. Measured on some frames; one size for the sequence, so that images do not flicker.
    """
    num_frames = len(point_offsets) - 1
    cells = (pixels * settings.supersampling).astype(np.int64)
    chosen = np.unique(np.linspace(0, num_frames - 1, min(num_frames, DENSITY_FRAMES)).astype(int))
    frames = [cells[point_offsets[t] : point_offsets[t + 1] : 1 if scanned else 3] for t in chosen]
    image = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
    column, row = np.concatenate(frames).T
    side = settings.image_size * settings.supersampling
    sizes = range(3, side // 8, 2)
    for size in sizes:
        occupied = np.zeros((len(frames), side // size + 3, side // size + 3), dtype=bool)
        occupied[image, row // size + 1, column // size + 1] = True
        above, below = occupied[:, :-2, 1:-1], occupied[:, 2:, 1:-1]
        left, right = occupied[:, 1:-1, :-2], occupied[:, 1:-1, 2:]
        between = (above & below) | (left & right) if scanned else above & below & left & right
        gaps = ~occupied[:, 1:-1, 1:-1] & between
        # Where squares hold hardly more than a point each, they are too small to tell a gap from the background.
        if len(image) >= 2 * occupied.sum() and gaps.sum() <= settings.gap_share * occupied.sum():
            return size
    return max(sizes, default=3)
