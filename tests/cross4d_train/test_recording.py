import numpy as np
import pytest

from cross4d_cache.errors import SettingsError
from cross4d_train.clips import ClipSettings
from cross4d_train.recording import Recording, Window, draw_points, split

GRID = np.stack(np.meshgrid(*[np.arange(5)] * 3), axis=-1).reshape(-1, 3).astype(np.float32)


def windows(num_frames, length, stride):
    return list(split(num_frames, ClipSettings(num_frames=length, num_points=1, stride=stride)))


def test_windows_follow_one_another_and_the_last_one_moves_back():
    assert windows(7, 3, 1) == [
        [Window(frames=(0, 1, 2), counted=range(0, 3))],
        [Window(frames=(3, 4, 5), counted=range(0, 3))],
        [Window(frames=(4, 5, 6), counted=range(2, 3))],
    ]


def test_a_recording_that_is_too_short_repeats_its_last_frame():
    assert windows(2, 4, 1) == [[Window(frames=(0, 1, 1, 1), counted=range(0, 2))]]


def test_with_a_stride_recordings_lie_one_within_another():
    assert windows(5, 2, 2) == [
        [Window(frames=(0, 2), counted=range(0, 2)), Window(frames=(1, 3), counted=range(0, 2))],
        [Window(frames=(2, 4), counted=range(1, 2))],
    ]
    assert windows(1, 2, 3) == [[Window(frames=(0, 0), counted=range(0, 1))]]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("num_frames", [1, 5, 6, 7, 23])
def test_every_frame_counts_once_and_groups_end_where_the_next_begin(num_frames, stride):
    groups = [sorted(window.frames[place] for window in group for place in window.counted) for group in windows(num_frames, 3, stride)]
    assert [frame for group in groups for frame in group] == list(range(num_frames))


def test_the_same_rows_are_drawn_of_frames_of_equally_many_points():
    points = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    drawn = draw_points(points, 20)
    assert len(np.unique(drawn, axis=0)) == 20
    np.testing.assert_array_equal(draw_points(points + 1, 20), drawn + 1)
    repeated = draw_points(points[:3], 7)
    assert np.unique(repeated, axis=0).tolist() == np.unique(points[:3], axis=0).tolist()


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "without frames"),
        ([np.zeros((4, 3), np.float32), np.zeros((0, 3), np.float32)], "frame 1 of the recording has no points"),
        ([np.zeros((4, 2), np.float32)], r"has the shape \(4, 2\)"),
        ([np.zeros((2, 4, 3), np.float32)], r"has the shape \(2, 4, 3\)"),
        ([np.zeros((4, 3), np.int16)], "coordinates of type int16"),
        ([np.array([[0, 0, 0], [0, np.nan, 1]], np.float32)], "has 1 points that are NaN"),
        ([np.array([[0, 0, 1e300]])], "has 1 points that are NaN or infinite"),
    ],
)
def test_what_is_no_recording_is_refused(frames, message):
    with np.errstate(over="ignore"), pytest.raises(SettingsError, match=message):
        Recording(frames)


def test_millimetres_are_refused_and_sparse_points_are_not():
    """A grid of 5 x 5 x 5 points, 0.1 m apart and 0.7 m across, for an encoder that looks 0.15 m far."""
    body = 0.1 * GRID
    Recording([body]).check_unit(0.15)
    with pytest.raises(SettingsError, match=r"points 100.00 m from one another in a frame 693 m across"):
        Recording([1000 * body]).check_unit(0.15)
    Recording([1000 * body]).check_unit(None)
    Recording([10 * body]).check_unit(0.15)  # 1 m apart, 7 m across
    Recording([1000 * np.concatenate([body, body[:50] + 5e-5])]).check_unit(0.15)  # some have a neighbour, as points of a laser's ring do
    Recording([np.full((4, 3), 1e5, np.float32)]).check_unit(0.15)
