"""Spherical cameras against point-by-point trigonometry in double precision, and from a scan to a store."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cross4d_cache.build.engines.local import Build
from cross4d_cache.build.plan import plan_build
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.datasets.dataset import Dataset, DatasetOptions
from cross4d_cache.errors import SettingsError
from cross4d_cache.rendering.camera import SequenceViews, place_cameras
from cross4d_cache.rendering.correspondence import correspond, winners
from cross4d_cache.rendering.projection import batch_cameras
from cross4d_cache.rendering.render import AMBIENT, FARTHEST_TONE, LIGHT, RenderedView, render
from cross4d_cache.store import Cache, open_cache
from cross4d_cache.teachers import load_teacher
from cross4d_cache.types import Frame, RenderSettings, SequenceInfo
from pipelines.benchmarks.street import scan, street_mesh
from pipelines.benchmarks.visibility import measure_scan

CPU = torch.device("cpu")
PATCH = 8


IMAGE_SIZE = 32


def spherical(views: int, image_size: int = IMAGE_SIZE) -> RenderSettings:
    return RenderSettings(camera_model="spherical", views=views, image_size=image_size)


def place(points: np.ndarray, render_settings: RenderSettings) -> SequenceViews:
    return place_cameras(points, np.array([0, len(points)]), render_settings)


def observe(points: np.ndarray, render_settings: RenderSettings) -> tuple[RenderedView, np.ndarray, np.ndarray]:
    """The rendered views, and patch and visibility of every point in each."""
    cameras = batch_cameras([place(points, render_settings)], CPU)
    image = torch.arange(render_settings.views).repeat_interleave(len(points))
    view = render(torch.from_numpy(points).repeat(render_settings.views, 1), image, cameras, render_settings)
    found = correspond(view, image, cameras, render_settings, PATCH)
    return view, found.patch.view(-1, len(points)).numpy(), found.visible.view(-1, len(points)).numpy()


@st.composite
def scans(draw: st.DrawFn, seams: tuple[float, ...] = (0.0, 0.3)) -> np.ndarray:
    """Points on all sides, from centimetres to hundreds of metres; some near the seams, the poles, and at the sensor."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, 150))
    azimuth = rng.uniform(-math.pi, math.pi, count)
    near = rng.random(count) < draw(st.sampled_from(seams))
    azimuth[near] = rng.integers(-24, 25, near.sum()) * (math.pi / 24) + rng.choice([0, 1e-9, -1e-9, 1e-5, -1e-5], near.sum())
    elevation = rng.uniform(-0.4, 0.3, count)
    poles = rng.random(count) < draw(st.sampled_from([0.0, 0.1]))
    elevation[poles] = rng.choice([-1, 1], poles.sum()) * (math.pi / 2 - rng.choice([0, 1e-6, 0.01], poles.sum()))
    distance = 10.0 ** rng.uniform(-1, 2, count) * 10.0 ** draw(st.integers(-1, 1))
    distance[rng.random(count) < draw(st.sampled_from([0.0, 0.1]))] = 0
    across = distance * np.cos(elevation)
    return np.stack([across * np.sin(azimuth), distance * np.sin(elevation), across * np.cos(azimuth)], axis=1).astype(np.float32)


def reference_cell(point: Sequence[float], view: int, elevations: tuple[float, float], side: int, views: int) -> tuple[int, int] | None:
    """Row and column of a point among `side` x `side` cells of a view, or None if it is not there. Azimuth counts in 2**20ths."""
    x, y, z = point
    width = 2 * math.pi / views
    ticks = round(math.atan2(x, z) / width * 2**20)
    middle = -view * 2**20  # a camera that has turned by +yaw looks to the left, where azimuth is negative
    offset = (ticks - middle + 2**19) % (views * 2**20)
    if offset >= 2**20:
        return None
    low, high = elevations
    span = max(high - low, math.radians(1)) / 0.95
    share = 0.5 + (math.atan2(y, math.hypot(x, z)) - (low + high) / 2) / span
    # Pixel coordinates are float32: a row within rounding of a cell's edge falls to the side that they fall to.
    row = np.float32(share * IMAGE_SIZE) * np.float32(side // IMAGE_SIZE)
    return math.floor(row), math.floor(offset * side / 2**20)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(scans(), st.sampled_from([1, 2, 3, 8]))
def test_cells_and_depths_equal_the_reference(points: np.ndarray, views: int) -> None:
    render_settings = spherical(views)
    view, patch, visible = observe(points, render_settings)
    side = IMAGE_SIZE * render_settings.supersampling
    exact = points.astype(float).tolist()
    diagonal = math.dist(points.astype(float).max(axis=0), points.astype(float).min(axis=0)) or 1.0
    distance = [math.hypot(*point) for point in exact]
    directed = [length > diagonal / 65_535 for length in distance]
    angles = [math.atan2(y, math.hypot(x, z)) for (x, y, z), real in zip(exact, directed, strict=True) if real] or [0.0]
    place = (torch.arange(views).repeat_interleave(len(points)) * side + view.row) * side + view.column
    winner = winners(view.point_depth, place, views * side**2).view(views, side, side)
    for number in range(views):
        nearest: dict[tuple[int, int], tuple[float, int]] = {}
        for index, point in enumerate(exact):
            cell = reference_cell(point, number, (min(angles), max(angles)), side, views) if directed[index] else None
            assert math.isfinite(view.point_depth[number * len(exact) + index]) == (cell is not None)
            if cell is None:
                assert not visible[number, index]
                continue
            assert (int(view.row[number * len(exact) + index]), int(view.column[number * len(exact) + index])) == cell
            assert patch[number, index] == cell[0] * 4 // side * 4 + cell[1] * 4 // side
            nearest[cell] = min(nearest.get(cell, (math.inf, -1)), (float(np.float32(distance[index])), number * len(exact) + index))
        found = winner[number].numpy()
        assert {(int(row), int(column)): int(found[row, column]) for row, column in np.argwhere(found >= 0)} == {
            cell: winner for cell, (_, winner) in nearest.items()
        }


@settings(max_examples=20, deadline=None, derandomize=True)
@given(scans(), st.sampled_from([1, 2, 3, 8]))
def test_visibility_equals_the_reference(points: np.ndarray, views: int) -> None:
    """Given the surface: a point in its image is visible unless the surface there is nearer than by the tolerance and half the slope."""
    view, _, visible = observe(points, spherical(views))
    for index, (depth, row, column, seen) in enumerate(
        zip(view.point_depth.tolist(), view.row.tolist(), view.column.tolist(), visible.ravel().tolist(), strict=True)
    ):
        number, (top, _, left, _) = index // len(points), view.bounds
        surface = float(view.depth[number, row - top * 7, column - left * 7])
        slope = float(view.slope[number, row // 7 - top, column // 7 - left])
        limit = surface + 0.01 * depth + min(slope / 2, 0.01 * depth)
        if math.isinf(depth):
            assert not seen
        elif not math.isclose(depth, limit, rel_tol=1e-6):
            assert seen == (depth <= limit)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(scans(), st.integers(1, 12))
def test_every_point_lies_in_exactly_one_view_unless_it_is_at_the_sensor(points: np.ndarray, views: int) -> None:
    placed = place(points, spherical(views))
    cameras = batch_cameras([placed], CPU)
    depth = np.stack([cameras.project(torch.from_numpy(points), torch.full((len(points),), view))[1].numpy() for view in range(views)])
    far = np.linalg.norm(points.astype(float), axis=1) > placed.diagonal / 65_535
    np.testing.assert_array_equal(np.isfinite(depth).sum(axis=0), far.astype(int))


@pytest.mark.parametrize("views", [1, 2, 4, 8, 12])
def test_seams_belong_to_one_view_whatever_the_sign_of_zero(views: int) -> None:
    lattice = np.stack(np.meshgrid([-1.0, -0.0, 0.0, 1.0], [0.5], [-1.0, -0.0, 0.0, 1.0]), axis=-1).reshape(-1, 3).astype(np.float32)
    depth = observe(lattice, spherical(views))[0].point_depth.view(views, -1)
    assert (torch.isfinite(depth).sum(dim=0) == 1).all()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(scans(), st.sampled_from([1, 3, 8]))
def test_projection_agrees_with_the_stored_cameras(points: np.ndarray, views: int) -> None:
    placed = place(points, spherical(views))
    cameras = batch_cameras([placed], CPU)
    for number, camera in enumerate(placed.cameras):
        pixels, depth = cameras.project(torch.from_numpy(points), torch.full((len(points),), number))
        inside = torch.isfinite(depth).numpy()
        expected, distance = camera.project(points[inside])
        difference = np.abs(pixels.numpy()[inside] - expected)
        difference[:, 0] = np.minimum(difference[:, 0], np.abs(difference[:, 0] - 32 * views))  # the seam behind the sensor
        assert difference.max(initial=0) < 1e-4
        np.testing.assert_allclose(depth.numpy()[inside], distance, rtol=1e-6)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(scans(seams=(0.0,)))
def test_turning_a_scan_by_a_sector_moves_its_views_by_one(points: np.ndarray) -> None:
    """A quarter of a turn, which is exact in float32."""
    turned = np.stack([-points[:, 2], points[:, 1], points[:, 0]], axis=1)  # from ahead to the left, which view 1 looks at
    _, patch, visible = observe(points, spherical(4))
    _, patch_after, visible_after = observe(turned, spherical(4))
    np.testing.assert_array_equal(visible_after, np.roll(visible, 1, axis=0))
    np.testing.assert_array_equal(patch_after[visible_after], np.roll(patch, 1, axis=0)[visible_after])


def test_views_turn_to_the_left_from_straight_ahead() -> None:
    ahead_left_behind_right = np.array([[0, 0, 5], [-5, 0, 0], [0, 0, -5], [5, 0, 0]], dtype=np.float32)
    depth = observe(ahead_left_behind_right, spherical(4))[0].point_depth.view(4, 4)
    np.testing.assert_array_equal(torch.isfinite(depth).numpy(), np.eye(4, dtype=bool))


def test_rows_grow_downwards_and_columns_to_the_right() -> None:
    points = np.array([[-1, -1, 5], [1, -1, 5], [-1, 1, 5], [1, 1, 5]], dtype=np.float32)
    cameras = batch_cameras([place(points, spherical(4))], CPU)
    pixels = cameras.project(torch.from_numpy(points), torch.zeros(4, dtype=torch.int64))[0].numpy()
    assert (pixels[[0, 2], 0] < 16).all()
    assert (pixels[[1, 3], 0] > 16).all()
    np.testing.assert_allclose(pixels[:, 1], [16 - 15.2, 16 - 15.2, 16 + 15.2, 16 + 15.2], rtol=1e-5)


@pytest.mark.usefixtures("open3d")
def test_a_point_at_the_sensor_hides_nothing() -> None:
    """Datasets mark rays without an echo by the origin, which the grid of the store moves by half a step."""
    sphere = scan(street_mesh(0.0), beams=16, azimuths=256)
    without_echo = 1e-4 * np.random.default_rng(0).uniform(-1, 1, (200, 3)).astype(np.float32)
    found = observe(np.concatenate([without_echo, sphere]), spherical(8))[2]
    np.testing.assert_array_equal(found[:, 200:], observe(sphere, spherical(8))[2])
    assert not found[:, :200].any()


def test_pixels_per_metre_by_hand() -> None:
    """Ten rows a radian, row 4 straight ahead: the middle of row 8 is at 0.45 radians. There the circle is shorter by the cosine."""
    made = batch_cameras([place(np.array([[0, 0, 1], [0, 1, 1]], dtype=np.float32), spherical(1))], torch.device("cpu"))
    cameras = replace(made, focal=torch.full((1,), 10.0).double(), centre_row=torch.full((1,), 4.0).double())
    columns, rows = cameras.pixels_per_metre(torch.full((1, 1, 1), 2.0), 8)
    assert float(rows) == pytest.approx(10 / 2)
    assert float(columns) == pytest.approx(IMAGE_SIZE / (2 * math.pi) / math.cos(0.45) / 2)


def test_a_point_as_near_as_has_no_direction_is_in_no_image() -> None:
    """Straight ahead at 1 m and at 2 m, where only points farther than 1 m have a direction."""
    points = np.array([[0, 0, 1], [0, 0, 2]], dtype=np.float32)
    cameras = replace(batch_cameras([place(points, spherical(1))], torch.device("cpu")), nearest=torch.ones(1, dtype=torch.float64))
    assert cameras.project(torch.from_numpy(points), torch.zeros(2, dtype=torch.int64))[1].tolist() == [math.inf, 2]


@pytest.mark.parametrize("points", [np.zeros((3, 3)), np.array([[0, 0, 4.0]]), np.array([[0, 3.0, 0], [0, 3.0, 0]])])
def test_degenerate_scans(points: np.ndarray) -> None:
    view, _, visible = observe(points.astype(np.float32), spherical(4))
    assert torch.isfinite(view.image).all()
    np.testing.assert_array_equal(visible.sum(axis=0), (np.abs(points).sum(axis=1) > 0).astype(int))


def test_a_wall_around_the_sensor_is_shaded_evenly() -> None:
    """All its normals point at the sensor, so slopes are none, whatever the elevation."""
    rng = np.random.default_rng(0)
    direction = np.stack([rng.uniform(-1, 1, 60_000), rng.uniform(-0.6, 0.6, 60_000), rng.uniform(-1, 1, 60_000)], axis=1)
    ball = (10 * direction / np.linalg.norm(direction, axis=1, keepdims=True)).astype(np.float32)
    image = observe(ball, spherical(8))[0].image
    assert (image[image > 0].std() / image[image > 0].mean()) < 0.01


def test_shading_of_a_wall_is_that_of_its_normal() -> None:
    """Up to steep elevations, where a column is narrower: slopes against the line of sight follow from the wall's normal."""
    rng = np.random.default_rng(0)
    azimuth, elevation = rng.uniform(-0.4, 0.4, 400_000), rng.uniform(-1.1, 1.1, 400_000)
    normal = np.array([0.5, 0.1, 0.85])  # of the wall normal @ point = 3
    wall = _direction(azimuth, elevation) * (3 / (_direction(azimuth, elevation) @ normal))[:, None]
    render_settings = spherical(8, 112)
    image = observe(wall.astype(np.float32), render_settings)[0].image[0].numpy()
    camera = place(wall.astype(np.float32), render_settings).cameras[0]
    row, column = np.mgrid[12:100:8, 12:100:8] + 0.5
    azimuth = (column - camera.intrinsics[0, 2]) / camera.intrinsics[0, 0]
    elevation = (row - camera.intrinsics[1, 2]) / camera.intrinsics[1, 1]
    facing = _direction(azimuth, elevation) @ normal
    right = np.stack([np.cos(azimuth), 0 * azimuth, -np.sin(azimuth)], axis=-1)
    slope_right = -(right @ normal) / facing
    slope_down = -(_direction(azimuth, elevation + math.pi / 2) @ normal) / facing
    lambert = (slope_right * LIGHT[0] + slope_down * LIGHT[1] - LIGHT[2]) / np.sqrt(slope_right**2 + slope_down**2 + 1)
    near, far = np.linalg.norm(wall, axis=1).min(), np.linalg.norm(wall, axis=1).max()
    tone = 1 - (1 - FARTHEST_TONE) * (3 / facing - near) / (far - near)
    expected = tone * (AMBIENT + (1 - AMBIENT) * lambert.clip(0, 1))
    assert np.abs(image[row.astype(int), column.astype(int)] - expected).mean() < 0.004


def _direction(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Unit vectors; elevation is positive downwards."""
    return np.stack([np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)], axis=-1)


@pytest.mark.parametrize("radius", [0.5, 10.0, 200.0])
def test_the_tolerance_grows_with_distance(radius: float) -> None:
    """Behind a shell without slope it is a hundredth of the point's own distance."""
    rng = np.random.default_rng(0)
    direction = np.stack([rng.uniform(-1, 1, 40_000), rng.uniform(-0.5, 0.5, 40_000), np.full(40_000, 2.0)], axis=1)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    inner = direction[(np.abs(direction[:, :2]) < 0.2).all(axis=1)][:100]
    shell, near, far = radius * direction, radius * 1.009 * inner, radius * 1.012 * inner
    visible = observe(np.concatenate([shell, near, far]).astype(np.float32), spherical(4))[2][0]
    assert visible[:-100].all()
    assert not visible[-100:].any()


@pytest.mark.usefixtures("open3d")
@pytest.mark.parametrize("image_size", [112, 224])
def test_visibility_of_a_lidar_agrees_with_ray_casting(image_size: int) -> None:
    assert measure_scan(image_size, "scan")["tolerance"].recall >= 0.99
    with_hidden = measure_scan(image_size, "scan+")["tolerance"]
    assert with_hidden.precision >= 0.95
    assert with_hidden.recall >= 0.95


class Street(Dataset):
    """Three scans of a street."""

    name = "street"
    version = "1"
    protocols: ClassVar[tuple[str, ...]] = ("all",)
    needs_root = False
    action_names = ("drive",)

    def __init__(self) -> None:
        super().__init__(None, DatasetOptions())

    def sequences(self) -> Sequence[SequenceInfo]:
        return [SequenceInfo(id="street", num_frames=3, action=0, subject=1, splits={"all": "train"})]

    def frames(self, info: SequenceInfo) -> Iterator[Frame]:
        for t in range(info.num_frames):
            yield Frame(points=_street(t))


@cache
def _street(t: int) -> np.ndarray:
    return scan(street_mesh(t / 10), beams=24, azimuths=360)


def build(path: Path, **chosen: object) -> Cache:
    settings = BuildSettings(points_per_frame=6000, **chosen)  # type: ignore[arg-type]
    dataset, teacher = Street(), load_teacher("position")
    for _ in Build(dataset, teacher, plan_build(dataset, teacher, settings), path).run():
        pass
    return open_cache(path)


@pytest.mark.usefixtures("open3d")
def test_a_store_of_scans_has_the_slots_of_the_reference(tmp_path: Path) -> None:
    """Every slot leads to the patch in which the stored camera sees the point; what is stored is enough to tell."""
    store = build(tmp_path / "store.zarr", camera_model="spherical", views=8)
    teacher = load_teacher("position").spec
    clip, cameras = store.read_clip(0, np.arange(3)), store.cameras(0, 0)
    assert (clip.rows >= 0).any(axis=1).mean() > 0.9
    assert ((clip.rows >= 0).sum(axis=1) <= 1).all()
    for number, camera in enumerate(cameras):
        assert camera.model == "spherical"
        seen = clip.rows[:, number] >= 0
        column, row = np.floor(camera.project(clip.points[seen])[0] / teacher.patch_size).astype(int).T
        np.testing.assert_array_equal(
            clip.patches[clip.rows[seen, number]], number * teacher.num_patches + row * teacher.patches_per_side + column
        )
    for t in range(3):
        own = slice(clip.point_offsets[t], clip.point_offsets[t + 1])
        cameras_again = batch_cameras([place_cameras(clip.points, clip.point_offsets, store.manifest.render)], CPU)
        image = torch.arange(8).repeat_interleave(own.stop - own.start)
        view = render(torch.from_numpy(clip.points[own]).repeat(8, 1), image, cameras_again, store.manifest.render)
        found = correspond(view, image, cameras_again, store.manifest.render, teacher.patch_size)
        np.testing.assert_array_equal(clip.rows[own].T >= 0, found.visible.view(8, -1).numpy())


@pytest.mark.usefixtures("open3d")
def test_the_manifest_says_which_camera(tmp_path: Path) -> None:
    pinhole, sphere = build(tmp_path / "pinhole.zarr", views=2), build(tmp_path / "sphere.zarr", views=2, camera_model="spherical")
    assert (pinhole.manifest.render.camera_model, sphere.manifest.render.camera_model) == ("pinhole", "spherical")
    assert pinhole.manifest.fingerprint != sphere.manifest.fingerprint
    assert pinhole.manifest.differences(sphere.manifest) == ["render.camera_model: pinhole here, spherical there"]


def test_an_unknown_camera_is_named() -> None:
    with pytest.raises(SettingsError, match="unknown camera model 'fisheye'"):
        plan_build(Street(), load_teacher("position"), BuildSettings(camera_model="fisheye"))
