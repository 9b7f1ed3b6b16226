"""Some points of a frame, however they are named, by hand."""

import numpy as np
import pytest

from cross4d_cache.types import Frame


@pytest.mark.parametrize(
    ("picks", "rows"),
    [
        (np.array([True, False, True]), [0, 2]),
        (np.array([2, 0, 2]), [2, 0, 2]),
        (slice(1, 3), [1, 2]),
    ],
    ids=["mask", "numbers", "slice"],
)
def test_points_and_labels_of_the_same_rows(picks: slice | np.ndarray, rows: list[int]) -> None:
    points = np.arange(9, dtype=np.float32).reshape(3, 3)
    frame = Frame(points=points, part_labels=np.array([7, 8, 9], np.uint16), surface_ids=np.array([4, 5, 6], np.uint32), action=3)
    some = frame[picks]
    assert some.points.tolist() == [[3.0 * row, 3.0 * row + 1, 3.0 * row + 2] for row in rows]
    assert some.part_labels is not None
    assert some.surface_ids is not None
    assert some.part_labels.tolist() == [7 + row for row in rows]
    assert some.surface_ids.tolist() == [4 + row for row in rows]
    assert some.action == 3
