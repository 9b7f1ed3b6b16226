import pytest
from hypothesis import given
from hypothesis import strategies as st

from cross4d_cache.teachers.teacher import plan_windows


@given(st.integers(1, 100), st.sampled_from([1, 2, 4, 16]))
def test_every_frame_is_owned_once_in_order(num_frames: int, window: int) -> None:
    windows = plan_windows(num_frames, window)
    owned = [frame for item in windows for frame in item.frames[item.first_owned : item.end_owned]]
    assert owned == list(range(num_frames))
    assert all(len(item.frames) == window for item in windows)


@given(st.integers(1, 100), st.sampled_from([2, 4, 16]))
def test_windows_hold_consecutive_frames_and_repeat_only_in_short_sequences(num_frames: int, window: int) -> None:
    for item in plan_windows(num_frames, window):
        steps = [after - before for before, after in zip(item.frames, item.frames[1:], strict=False)]
        assert all(step == 1 for step in steps[: num_frames - 1])
        assert all(step == 0 for step in steps[num_frames - 1 :])


@pytest.mark.parametrize(("num_frames", "expected"), [(16, [(0, 0)]), (17, [(0, 0), (1, 15)]), (33, [(0, 0), (16, 0), (17, 15)])])
def test_the_last_window_ends_with_the_sequence(num_frames: int, expected: list[tuple[int, int]]) -> None:
    assert [(item.frames[0], item.first_owned) for item in plan_windows(num_frames, 16)] == expected
