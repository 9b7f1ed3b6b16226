import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cross4d_cache.rendering.camera import place_cameras
from cross4d_cache.rendering.correspondence import correspond, hit_patches, winners
from cross4d_cache.rendering.projection import batch_cameras
from cross4d_cache.rendering.render import render
from cross4d_cache.types import RenderSettings


def _correspond(points: np.ndarray, render_settings: RenderSettings, patch_size: int, shift: int = 0):  # type: ignore[no-untyped-def]
    cameras = batch_cameras([place_cameras(points, np.array([0, len(points)]), render_settings)], torch.device("cpu"))
    image = torch.zeros(len(points), dtype=torch.int64)
    cloud = torch.from_numpy(points)
    view = render(cloud, image, cameras, render_settings)
    return correspond(view, image, cameras, render_settings, patch_size, shift=shift), cameras.project(cloud, image)[0].numpy()


def reference_winners(depth: list[float], place: list[int], num_places: int) -> list[int]:
    """Point by point: a nearer point wins, an equally near one does not."""
    nearest, winner = [math.inf] * num_places, [-1] * num_places
    for number, (z, where) in enumerate(zip(depth, place, strict=True)):
        if z < nearest[where]:
            nearest[where], winner[where] = z, number
    return winner


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from([0.5, 1.0, 1.0000001, 3.0, 1e-6, 2e8, math.inf]), st.integers(0, 7)), max_size=60))
def test_winners_equal_the_reference_and_ties_go_to_the_first_point(points: list[tuple[float, int]]) -> None:
    depth = torch.tensor([z for z, _ in points], dtype=torch.float32)
    place = torch.tensor([where for _, where in points], dtype=torch.int64)
    assert winners(depth, place, 8).tolist() == reference_winners(depth.tolist(), place.tolist(), 8)


@pytest.mark.parametrize("image_size", [64, 126, 224])
def test_only_the_nearest_point_of_a_pixel_wins(image_size: int) -> None:
    points = np.random.default_rng(1).standard_normal((4000, 3)).astype(np.float32)
    render_settings = RenderSettings(image_size=image_size, visibility="winner")
    cameras = batch_cameras([place_cameras(points, np.array([0, len(points)]), render_settings)], torch.device("cpu"))
    image = torch.zeros(len(points), dtype=torch.int64)
    pixels, depth = cameras.project(torch.from_numpy(points), image)
    pixel = (pixels.floor() @ torch.tensor([1.0, image_size])).long().tolist()
    expected = set(reference_winners(depth.tolist(), pixel, image_size**2)) - {-1}
    found, _ = _correspond(points, render_settings, image_size // 2)
    assert set(found.visible.nonzero()[:, 0].tolist()) == expected
    assert len(expected) == len(set(pixel))


def test_a_shift_looks_up_the_patch_to_the_right_and_stops_at_the_edge() -> None:
    points = np.random.default_rng(0).standard_normal((500, 3)).astype(np.float32)
    render_settings = RenderSettings(image_size=126)
    plain, pixels = _correspond(points, render_settings, 14)
    shifted, _ = _correspond(points, render_settings, 14, shift=40)
    column, row = np.floor(pixels).astype(int).T
    np.testing.assert_array_equal(shifted.patch.numpy(), row // 14 * 9 + np.minimum(column + 40, 125) // 14)
    assert torch.equal(shifted.visible, plain.visible)


def test_patch_is_the_one_whose_pixels_hold_the_point() -> None:
    points = np.random.default_rng(0).standard_normal((500, 3)).astype(np.float32)
    for image_size, patch_size in ((126, 14), (224, 16), (64, 8)):
        found, pixels = _correspond(points, RenderSettings(image_size=image_size), patch_size)
        column, row = np.floor(pixels / patch_size).astype(int).T
        np.testing.assert_array_equal(found.patch.numpy(), row * (image_size // patch_size) + column)


def test_a_wall_hides_what_is_behind_it_and_nothing_else() -> None:
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 60), np.linspace(-1, 1, 60)), axis=-1).reshape(-1, 2)
    wall = np.column_stack([grid * 0.5, np.full(len(grid), 2.0)])
    behind = np.column_stack([grid, np.full(len(grid), 3.0)])
    points = np.concatenate([wall, behind]).astype(np.float32)
    found, pixels = _correspond(points, RenderSettings(image_size=224), 16)
    visible = found.visible.numpy()
    assert visible[: len(wall)].all()
    wall_low, wall_high = pixels[: len(wall)].min(axis=0), pixels[: len(wall)].max(axis=0)
    hidden = ((pixels > wall_low) & (pixels < wall_high)).all(axis=1)[len(wall) :]
    outside = ((pixels < wall_low - 2) | (pixels > wall_high + 2)).any(axis=1)[len(wall) :]
    assert not visible[len(wall) :][hidden].any()
    assert visible[len(wall) :][outside].all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 2)), min_size=1, max_size=50))
def test_hit_patches_equal_the_reference(points: list[tuple[int, bool, int]]) -> None:
    patch, visible, tubelet = (torch.tensor(column) for column in zip(*points, strict=True))
    hit, slot = hit_patches(patch, visible, tubelet, 3, 6)
    tables = [sorted({p for p, seen, k in points if seen and k == table}) for table in range(3)]
    assert [row.nonzero()[:, 0].tolist() for row in hit] == tables
    assert slot.tolist() == [tables[k].index(p) if seen else -1 for p, seen, k in points]
