"""Strays have no say in cameras: with them, the cameras of all other points are those without them, to the last bit."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cross4d_cache.rendering.camera import SequenceViews, place_cameras
from cross4d_cache.rendering.camera.framing import nearly_all
from cross4d_cache.rendering.correspondence import correspond
from cross4d_cache.rendering.projection import batch_cameras
from cross4d_cache.rendering.render import render
from cross4d_cache.types import RenderSettings

ALL = {
    "around": RenderSettings(image_size=112, views=2),
    "sensor": RenderSettings(image_size=112, camera="sensor"),
    "spherical": RenderSettings(image_size=112, views=8, camera_model="spherical"),
}
CPU = torch.device("cpu")


def most(name: str) -> RenderSettings:
    return ALL[name].model_copy(update={"framing": "most", "density": "places"})


def body(frames: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((500, 3)).clip(-2, 2) * [0.2, 0.5, 0.1] + [0.05 * t, 0, 3]).astype(np.float32) for t in range(frames)]


def place(frames: list[np.ndarray], render_settings: RenderSettings) -> SequenceViews:
    return place_cameras(np.concatenate(frames), np.cumsum([0, *map(len, frames)]), render_settings)


def assert_same(left: SequenceViews, right: SequenceViews) -> None:
    for one, other in zip(left.cameras, right.cameras, strict=True):
        np.testing.assert_array_equal(one.world_to_camera, other.world_to_camera)
        np.testing.assert_array_equal(one.intrinsics, other.intrinsics)
    np.testing.assert_array_equal(left.depth_ranges, right.depth_ranges)
    np.testing.assert_array_equal(left.centroid, right.centroid)
    assert (left.diagonal, left.splat_sizes) == (right.diagonal, right.splat_sizes)


STRAYS = {"behind": [0, 0, 500], "before": [0, 0, -50], "beside": [80, 0, 3], "above": [0, -300, 2.5], "two": [0, 0, 50]}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("stray", STRAYS)
def test_a_stray_moves_no_camera_and_no_target(name: str, stray: str) -> None:
    frames, far = body(), np.float32([STRAYS[stray]] * (2 if stray == "two" else 1))
    with_stray = [frames[0], np.concatenate([frames[1], far]), frames[2]]
    clean, framed = place(frames, most(name)), place(with_stray, most(name))
    assert_same(clean, framed)
    expected, found = (seen(cloud, views, most(name)) for cloud, views in ((frames[1], clean), (with_stray[1], framed)))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one[:, :500], other[:, :500])


def seen(points: np.ndarray, views: SequenceViews, render_settings: RenderSettings) -> tuple[np.ndarray, np.ndarray]:
    """Whether each view sees each point, and in which patch."""
    number = len(views.cameras)
    image = torch.arange(number).repeat_interleave(len(points))
    cameras = batch_cameras([views], CPU)
    view = render(torch.from_numpy(points).repeat(number, 1), image, cameras, render_settings)
    found = correspond(view, image, cameras, render_settings, 16)
    visible = found.visible.numpy().reshape(number, -1)
    return visible, np.where(visible, found.patch.numpy().reshape(number, -1), -1)


@pytest.mark.parametrize("name", ["around", "spherical"])
def test_release_0_1_let_a_stray_decide(name: str) -> None:
    frames = body()
    stray = [*frames[:2], np.concatenate([frames[2], np.float32([[80, 0, 500]])])]
    before, after = place(frames, ALL[name]), place(stray, ALL[name])
    assert (before.depth_ranges != after.depth_ranges).any()


@pytest.mark.parametrize("name", ALL)
def test_points_without_strays_have_the_cameras_they_had(name: str) -> None:
    frames = body()
    assert nearly_all(np.concatenate(frames), most(name)) is None
    left, right = place(frames, ALL[name]), place(frames, most(name))
    assert_same(left, right)
    assert left.bounds == right.bounds


def test_by_hand() -> None:
    """101 points at 0 to 100 on a line: the box leaves out one on each side, 1 to 99; its diagonal is 98, so strays begin at 99 + 294."""
    line = np.zeros((101, 3), np.float32)
    line[:, 0] = np.arange(101)
    line[100, 0] = 393
    assert nearly_all(line, most("around")) is None
    line[100, 0] = 393.5
    framed = nearly_all(line, most("around"))
    assert framed is not None
    assert np.flatnonzero(~framed).tolist() == [100]
    assert nearly_all(line, ALL["around"]) is None
    assert nearly_all(line[50:], most("around")) is None  # of 51 points, one is more than 1 %


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 400), st.floats(0, 40))
def test_strays_are_those_of_a_slow_search(seed: int, count: int, tail: float) -> None:
    rng = np.random.default_rng(seed)
    points = (rng.standard_normal((count, 3)) * np.where(rng.random((count, 1)) < 0.01, 10**tail % 1e4, 1)).astype(np.float32)
    beyond = int(count * 0.01)
    sides = [sorted(float(point[axis]) for point in points)[beyond : count - beyond] for axis in range(3)]
    box = [(side[0], side[-1]) for side in sides]
    reach = 3 * float(np.linalg.norm([high - low for low, high in box]))
    expected = [all(low - reach <= float(c) <= high + reach for c, (low, high) in zip(point, box, strict=True)) for point in points]
    found = nearly_all(points, most("around"))
    assert (found is None and (all(expected) or not beyond)) or (found is not None and found.tolist() == expected)


def test_a_frame_of_strays_alone_is_in_no_image() -> None:
    frames = [*body(), np.float32([[400, 0, 0]])]
    views = place(frames, most("around"))
    offsets = np.cumsum([0, *map(len, frames)])
    assert [stop - start for start, stop in pairwise(offsets)][-1] == 1
    visible, _ = seen(frames[-1], views, most("around"))
    assert not visible.any()
