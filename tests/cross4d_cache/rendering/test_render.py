import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, grey_opening

from cross4d_cache.rendering.camera import Bounds, place_cameras
from cross4d_cache.rendering.projection import batch_cameras
from cross4d_cache.rendering.render import RenderedView, close_gaps, nearest_depth, render
from cross4d_cache.types import PointCloudSequence, RenderSettings

CPU = torch.device("cpu")
MakeBall = Callable[..., PointCloudSequence]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from([0.5, 1.0, 1.0000001, 3.0, 1e-6, 2e8, math.inf]), st.integers(0, 7)), max_size=60))
def test_the_z_buffer_keeps_the_nearest_depth_of_every_cell(points: list[tuple[float, int]]) -> None:
    depth = torch.tensor([z for z, _ in points], dtype=torch.float32)
    cell = torch.tensor([place for _, place in points], dtype=torch.int64)
    places = list(zip(depth.tolist(), cell.tolist(), strict=True))
    expected = [min((z for z, place in places if place == number), default=math.inf) for number in range(8)]
    assert nearest_depth(depth, cell, 8).tolist() == expected


def octagon(size: int) -> np.ndarray:
    """Squares of 3 and crosses of 3 added up in turn."""
    square, cross = np.ones((3, 3), dtype=bool), np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)
    shape = np.zeros((size, size), dtype=bool)
    shape[size // 2, size // 2] = True
    for step in range(size // 2):
        shape = binary_dilation(shape, square if step % 2 == 0 else cross)
    return shape


@pytest.mark.parametrize("size", [3, 5, 7, 9])
def test_close_gaps_is_grey_closing(size: int) -> None:
    rng = np.random.default_rng(size)
    depth = np.where(rng.random((2, 40, 40)) < 0.4, rng.uniform(1, 3, (2, 40, 40)), 10.0).astype(np.float32)
    closed = close_gaps(torch.from_numpy(depth), size).numpy()
    for image, expected in zip(closed, depth, strict=True):
        # In depth, closing a surface is a grey opening: nearer values spread and shrink back.
        inner = slice(size, -size)
        grey_closing_of_depth = grey_opening(expected, footprint=octagon(size))
        np.testing.assert_array_equal(image[inner, inner], grey_closing_of_depth[inner, inner])


def test_closing_keeps_slanted_surfaces_and_silhouettes() -> None:
    depth = torch.full((1, 30, 30), torch.inf)
    depth[0, 8:22, 8:22] = 1 + torch.arange(8, 22) * 0.1
    assert torch.equal(close_gaps(depth, 5), depth)


def test_closing_fills_gaps_between_points() -> None:
    depth = torch.full((1, 30, 30), torch.inf)
    depth[0, 8:22:2, 8:22:2] = 2.0
    assert (close_gaps(depth, 3)[0, 8:21, 8:21] == 2.0).all()


def _render(make_ball: MakeBall, lengths: list[int], image_size: int = 64, *, whole: bool = False) -> RenderedView:
    """Views of balls; `whole` works on all of every image, not only on the part that holds points."""
    render_settings = RenderSettings(image_size=image_size)
    points, image, views, first = [], [], [], 0
    for number, length in enumerate(lengths):
        sequence = make_ball(length, seed=number, num_points=3000)
        placed = place_cameras(sequence.points, sequence.point_offsets, render_settings)
        for t in range(length):
            points.append(torch.from_numpy(sequence.frame(t)))
            image.append(torch.full((len(points[-1]),), first + t))
            views.append(placed)
        first += length
    cameras = batch_cameras(views, CPU)
    if whole:
        cameras = replace(cameras, bounds=Bounds(0, image_size, 0, image_size))
    return render(torch.cat(points), torch.cat(image), cameras, render_settings)


def test_images_do_not_depend_on_the_batch(make_ball: MakeBall) -> None:
    together = _render(make_ball, [3, 4]).image
    assert torch.equal(together[:3], _render(make_ball, [3]).image)


@pytest.mark.parametrize("image_size", [64, 126, 250])
def test_leaving_out_the_empty_part_of_images_changes_nothing(make_ball: MakeBall, image_size: int) -> None:
    part, whole = (_render(make_ball, [3, 2], image_size, whole=whole) for whole in (False, True))
    assert part.depth.numel() < whole.depth.numel()
    assert torch.equal(part.image, whole.image)
    assert torch.equal(part.surface_depth, whole.surface_depth)
    (top, bottom, left, right), fine = part.bounds, RenderSettings(image_size=image_size).supersampling
    assert torch.equal(part.depth, whole.depth[:, top * fine : bottom * fine, left * fine : right * fine])
    assert torch.equal(part.slope, whole.slope[:, top:bottom, left:right])


def test_image_brightness_is_in_range_and_the_subject_is_seen(make_ball: MakeBall) -> None:
    view = _render(make_ball, [2])
    assert view.image.min() == 0
    assert 0.3 < view.image.max() <= 1
    assert (view.surface_depth <= view.point_depth).all()
    share = (view.image > 0).float().mean()
    assert 0.1 < share < 0.9


def test_rendering_is_deterministic(make_ball: MakeBall) -> None:
    assert torch.equal(_render(make_ball, [3]).image, _render(make_ball, [3]).image)


def test_a_ball_is_brightest_towards_the_light() -> None:
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((200_000, 3))
    ball = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
    render_settings = RenderSettings(image_size=64)
    cameras = batch_cameras([place_cameras(ball, np.array([0, len(ball)]), render_settings)], CPU)
    image = render(torch.from_numpy(ball), torch.zeros(len(ball), dtype=torch.int64), cameras, render_settings).image[0]
    upper_left, lower_right = image[20:28, 20:28].mean(), image[36:44, 36:44].mean()
    assert upper_left > lower_right + 0.1
