"""Fixed-point points: half a step of error and no more."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cross4d_cache.store.quantize import LEVELS, bounding_box, decode, encode


def cloud(seed: int, size: float, centre: float) -> np.ndarray:
    return (np.random.default_rng(seed).uniform(-0.5, 0.5, (200, 3)) * size + centre).astype(np.float32)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), exponent=st.floats(-3, 3), shift=st.floats(-2, 2))
def test_error_is_at_most_half_a_step_from_millimetres_to_kilometres(seed: int, exponent: float, shift: float) -> None:
    size = 10.0**exponent
    points = cloud(seed, size, shift * size)
    box = bounding_box(points)
    error = np.abs(decode(encode(points, box), box).astype(np.float64) - points)
    rounding = 4 * np.spacing(np.abs(points).max())  # float32 arithmetic of the decoder
    assert (error <= box[1] / 2 + rounding).all()
    assert rounding < size / LEVELS / 2


def test_two_metres_are_kept_to_fifteen_micrometres() -> None:
    points = np.array([[-1, -1, 2], [1, 1, 4], [0.123456, -0.654321, 3.21]], np.float32)
    box = bounding_box(points)
    assert np.abs(decode(encode(points, box), box) - points).max() < 1.6e-5


def test_corners_of_the_box_are_the_ends_of_the_grid() -> None:
    points = cloud(0, 2.0, 1.0)
    grid = encode(points, bounding_box(points))
    assert grid.min(axis=0).tolist() == [0, 0, 0]
    assert grid.max(axis=0).tolist() == [LEVELS] * 3


@pytest.mark.parametrize("flat", [[0], [0, 1], [0, 1, 2]])
def test_axes_without_extent_are_exact(flat: list[int]) -> None:
    points = cloud(0, 2.0, 1.0)
    points[:, flat] = np.float32(0.7)
    box = bounding_box(points)
    assert (decode(encode(points, box), box)[:, flat] == np.float32(0.7)).all()


def test_a_single_point_is_exact() -> None:
    point = np.array([[1e-3, -5e2, 3.3]], np.float32)
    box = bounding_box(point)
    np.testing.assert_array_equal(decode(encode(point, box), box), point)


def test_coding_again_changes_nothing() -> None:
    points = cloud(3, 2.0, 3.0)
    box = bounding_box(points)
    grid = encode(points, box)
    np.testing.assert_array_equal(encode(decode(grid, box), box), grid)
