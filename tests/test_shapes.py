"""The checks of shapes and types that all other tests rely on are on, and find what is wrong."""

import numpy as np
import pytest
import torch

from cross4d_cache.errors import printable
from cross4d_train.conditioning import TargetStatistics, sample_sequences
from cross4d_train.encoders.grouping import take
from cross4d_train.recording import draw_points
from tests.shapes import WrongCallError


def test_an_array_of_another_shape_is_found() -> None:
    with pytest.raises(WrongCallError):
        take(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64))


def test_an_array_of_another_kind_of_number_is_found() -> None:
    with pytest.raises(WrongCallError):
        take(torch.zeros(2, 3, 4), torch.zeros(2, 3))


def test_axes_of_one_name_are_compared_within_a_call_and_not_between_calls() -> None:
    with pytest.raises(WrongCallError):
        take(torch.zeros(2, 3, 4), torch.zeros(5, 3, dtype=torch.int64))
    for clouds in (2, 5):
        assert take(torch.zeros(clouds, 3, 4), torch.zeros(clouds, 6, dtype=torch.int64)).shape == (clouds, 6, 4)


def test_an_axis_may_be_named_after_an_argument() -> None:
    points = np.zeros((5, 3), np.float32)
    assert draw_points(points, 5).shape == (5, 3)
    with pytest.raises(WrongCallError):
        draw_points(points[:, :2], 5)


def test_fields_of_a_dataclass_are_checked() -> None:
    counts, sums = torch.ones(2, dtype=torch.float64), torch.zeros(3, 4, dtype=torch.float64)
    with pytest.raises(WrongCallError):
        TargetStatistics(counts=counts, sums=sums, products=torch.zeros(4, 4, dtype=torch.float64))


def test_arguments_that_are_no_arrays_are_checked() -> None:
    with pytest.raises(WrongCallError):
        printable(7)
    with pytest.raises(WrongCallError):
        sample_sequences("all")
