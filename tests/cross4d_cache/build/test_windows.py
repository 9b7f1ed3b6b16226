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


def slow_owner(frame: int, num_frames: int, window: int) -> tuple[int, int]:
    """The window that a frame takes its tokens from, told by counting: its number, and the place of the frame in it."""
    number, first = 0, 0
    while first + window <= frame:
        number, first = number + 1, first + window
    while first > 0 and first + window > num_frames:
        first -= 1
    return number, frame - first


@given(st.integers(1, 100), st.integers(1, 20))
def test_each_frame_takes_its_tokens_from_the_window_that_counting_tells(num_frames: int, window: int) -> None:
    windows = plan_windows(num_frames, window)
    for frame in range(num_frames):
        number, place = slow_owner(frame, num_frames, window)
        owners = [index for index, item in enumerate(windows) if frame in item.frames[item.first_owned : item.end_owned]]
        assert owners == [number]
        assert windows[number].frames[place] == frame
        assert windows[number].first_owned <= place < windows[number].end_owned
    for number, item in enumerate(windows):
        first = min(number * window, max(num_frames - window, 0))
        assert list(item.frames) == [min(first + place, num_frames - 1) for place in range(window)]
