"""Splat sizes worked out by hand: images of 224 pixels have cells of one pixel, and sizes go from 3 to 27 in steps of two."""

import numpy as np
import pytest

from cross4d_cache.rendering.camera.density import counted_rows, splat_size
from cross4d_cache.types import RenderSettings

SETTINGS = RenderSettings(image_size=224)
"""Of release 0.1, by which every row counts: copies of a pixel stand for points that lie in it."""
SIDE = 60


def pixels_where(kept: np.ndarray, copies: int) -> np.ndarray:
    """The centres of the pixels (column, row) that are kept, each as often as asked."""
    row, column = np.nonzero(kept)
    return np.repeat(np.stack([column, row], axis=1) + 0.5, copies, axis=0)


def size_of(*frames: np.ndarray, scanned: bool, settings: RenderSettings = SETTINGS, scale: float = 1.0) -> int:
    offsets = np.cumsum([0, *map(len, frames)]).astype(np.int64)
    pixels = np.concatenate(frames) * scale
    rows = counted_rows(np.pad(pixels, ((0, 0), (0, 1))).astype(np.float32), offsets, settings)
    return splat_size([pixels[frame] for frame in rows], settings, scanned=scanned)


def blocks(kept: np.ndarray) -> np.ndarray:
    """Squares of three pixels."""
    return np.kron(kept, np.ones((3, 3), dtype=bool))


FULL = np.ones((SIDE // 3, SIDE // 3), dtype=bool)
STRIPES = FULL & (np.arange(SIDE // 3)[:, None] % 2 == 0)
BOARD = (np.arange(SIDE // 3)[:, None] + np.arange(SIDE // 3)) % 2 == 0


@pytest.mark.parametrize(
    ("pattern", "scanned", "expected"), [(FULL, False, 3), (STRIPES, False, 3), (STRIPES, True, 5), (STRIPES.T, True, 5), (BOARD, False, 5)]
)
def test_squares_grow_until_no_gap_is_left(pattern: np.ndarray, scanned: bool, expected: int) -> None:
    """Blocks of three pixels. Of a stripe's gaps two neighbours are occupied, which is a gap of a scan; of a chess board's all four are.

    Every square of five pixels holds some pixel of a block.
    """
    pixels = pixels_where(blocks(pattern), 3)
    assert size_of(pixels, scanned=scanned) == expected
    # Two z-buffer cells a pixel: the same cells at half the coordinates.
    assert size_of(pixels, scanned=scanned, settings=RenderSettings(image_size=112), scale=0.5) == expected


@pytest.mark.parametrize(("side", "expected"), [(20, 3), (15, 5)])
def test_a_small_share_of_gaps_is_allowed(side: int, expected: int) -> None:
    """One hole among 399 occupied squares is less than 0.003 of them, among 224 it is more."""
    pattern = np.ones((side, side), dtype=bool)
    pattern[7, 7] = False
    assert size_of(pixels_where(blocks(pattern), 3), scanned=False) == expected


def test_every_third_point_counts_but_of_scans_all() -> None:
    """Three points in each of 400 squares of three pixels. Of a scan 1,200 points are two a square at least; of a subject 400 are not, but
    in 144 squares of five they are.
    """
    centres = 3 * np.stack(np.meshgrid(np.arange(20), np.arange(20)), axis=-1).reshape(-1, 2) + 1.5
    pixels = np.repeat(centres, 3, axis=0)
    assert size_of(pixels, scanned=True) == 3
    assert size_of(pixels, scanned=False) == 5


def test_too_few_points_for_any_size_have_the_largest() -> None:
    assert size_of(np.array([[10.5, 10.5], [200.5, 200.5]]), scanned=True) == 27


def test_eight_frames_are_looked_at() -> None:
    """Of nine evenly spaced ones 0 to 6 and 8: a chess board in frame 1 or 8 counts, in frame 7 it does not."""
    full, board = (pixels_where(blocks(pattern), 3) for pattern in (FULL, BOARD))
    sizes = [size_of(*(board if frame == odd else full for frame in range(9)), scanned=False) for odd in (1, 7, 8)]
    assert sizes == [5, 3, 5]
