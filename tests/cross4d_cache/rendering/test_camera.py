import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cross4d_cache.errors import SettingsError
from cross4d_cache.rendering.camera import Bounds, SequenceViews, place_cameras, place_windows
from cross4d_cache.rendering.projection import CameraBatch, batch_cameras
from cross4d_cache.types import RenderSettings

SETTINGS = RenderSettings(image_size=126, views=4)
CPU = torch.device("cpu")


@st.composite
def clouds(draw: st.DrawFn) -> np.ndarray:
    """Clouds from millimetres to kilometres, flat and degenerate ones among them, also off the origin."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = 10.0 ** draw(st.floats(-3, 3.5))
    shape = rng.standard_normal((draw(st.integers(1, 200)), 3)) * np.array([draw(st.sampled_from([0.0, 0.1, 1.0])) for _ in range(3)])
    centre = rng.standard_normal(3) * scale * draw(st.sampled_from([0, 1, 10]))
    return (shape * scale + centre).astype(np.float32)


def project(points: np.ndarray, cameras: CameraBatch, view: int) -> tuple[np.ndarray, np.ndarray]:
    pixels, depth = cameras.project(torch.from_numpy(points), torch.full((len(points),), view))
    return pixels.numpy(), depth.numpy()


@settings(max_examples=100, deadline=None)
@given(clouds())
def test_every_point_lies_inside_every_image(points: np.ndarray) -> None:
    cameras = batch_cameras([place_cameras(points, np.array([0, len(points)]), SETTINGS)], CPU)
    for view in range(4):
        pixels, depth = project(points, cameras, view)
        assert (depth > 0).all()
        assert (pixels > 0).all()
        assert (pixels < SETTINGS.image_size).all()


@settings(max_examples=100, deadline=None)
@given(clouds())
def test_float32_projection_agrees_with_the_matrices_in_float64(points: np.ndarray) -> None:
    views = place_cameras(points, np.array([0, len(points)]), SETTINGS)
    cameras = batch_cameras([views], CPU)
    for view, camera in enumerate(views.cameras):
        local = points.astype(np.float64) @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
        exact = local @ camera.intrinsics.T
        pixels, depth = project(points, cameras, view)
        assert np.abs(pixels - exact[:, :2] / exact[:, 2:]).max() < 0.05
        np.testing.assert_allclose(depth, local[:, 2], rtol=1e-4)


@settings(max_examples=100, deadline=None)
@given(clouds())
def test_round_trip_through_pixel_centres_stays_below_half_a_pixel(points: np.ndarray) -> None:
    views = place_cameras(points, np.array([0, len(points)]), SETTINGS)
    cameras = batch_cameras([views], CPU)
    for view, camera in enumerate(views.cameras):
        pixels, depth = project(points, cameras, view)
        rays = np.column_stack([np.floor(pixels) + 0.5, np.ones(len(points))]) @ np.linalg.inv(camera.intrinsics).T
        pose = np.linalg.inv(camera.world_to_camera)
        back = (rays * depth[:, None]) @ pose[:3, :3].T + pose[:3, 3]
        again, _ = project(back.astype(np.float32), cameras, view)
        assert np.abs(again - pixels).max() < 0.55  # half a pixel, and float32


def test_pose_is_rigid_and_aims_at_the_centroid() -> None:
    points = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32) + np.float32([5, -2, 9])
    for camera in place_cameras(points, np.array([0, len(points)]), SETTINGS).cameras:
        rotation = camera.world_to_camera[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)
        centre = rotation @ points.mean(axis=0) + camera.world_to_camera[:3, 3]
        np.testing.assert_allclose(centre[:2], 0, atol=1e-5)


def test_views_go_round_the_subject() -> None:
    points = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    forward = [camera.world_to_camera[2, :3] for camera in place_cameras(points, np.array([0, len(points)]), SETTINGS).cameras]
    np.testing.assert_allclose(forward[0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(forward[2], [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose([f[1] for f in forward], 0, atol=1e-12)


def test_camera_backs_off_no_further_than_needed() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (2000, 3)).astype(np.float32)
    cameras = batch_cameras([place_cameras(points, np.array([0, len(points)]), RenderSettings(image_size=126))], CPU)
    pixels, _ = project(points, cameras, 0)
    assert np.abs(pixels / 63 - 1).max() == pytest.approx(0.95, abs=1e-3)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(clouds(), st.floats(0.1, 3), st.sampled_from([(0, 0, 1), (1, 0, 0), (0.3, -0.8, 0.5), (-1, 0.2, -1), (0, 1, 0)]))
def test_a_camera_at_the_sensor_sees_every_point_from_the_origin(points: np.ndarray, distance: float, towards: tuple[float, ...]) -> None:
    direction = np.array(towards) / np.linalg.norm(towards)
    radius = float(np.linalg.norm(points - points.mean(axis=0), axis=1).max()) or 1.0
    moved = (points - points.mean(axis=0) + direction * radius * (1.2 + distance)).astype(np.float32)
    at_sensor = RenderSettings(image_size=126, camera="sensor")
    placed = place_cameras(moved, np.array([0, len(moved)]), at_sensor)
    [camera] = placed.cameras
    np.testing.assert_array_equal(camera.world_to_camera[:3, 3], 0)
    np.testing.assert_allclose(camera.world_to_camera[:3, :3] @ camera.world_to_camera[:3, :3].T, np.eye(3), atol=1e-12)
    assert abs(camera.world_to_camera[0, 1]) < 1e-12  # rows are level
    pixels, depth = project(moved, batch_cameras([placed], CPU), 0)
    exact, exact_depth = camera.project(moved)
    np.testing.assert_allclose(pixels, exact, atol=0.05)
    np.testing.assert_allclose(depth, exact_depth, rtol=1e-4)
    assert (depth > 0).all()
    assert np.abs(pixels / 63 - 1).max() < 0.96


@pytest.mark.parametrize(
    ("camera", "num_frames", "expected"),
    [
        ("sequence", 3, [0, 0, 0]),
        ("sensor", 2, [0, 0]),
        ("window:4", 3, [0, 0, 0]),
        ("window:4", 8, [0, 0, 0, 0, 1, 1, 1, 1]),
        ("window:4", 11, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1]),
        ("window:1", 3, [0, 1, 2]),
    ],
)
def test_camera_windows(camera: str, num_frames: int, expected: list[int]) -> None:
    render_settings = RenderSettings(image_size=126, camera=camera)
    assert [render_settings.camera_window(frame, num_frames) for frame in range(num_frames)] == expected
    assert render_settings.num_camera_windows(num_frames) == expected[-1] + 1
    points = np.random.default_rng(0).standard_normal((num_frames * 5, 3)).astype(np.float32) + np.float32([0, 0, 20])
    offsets = np.arange(0, len(points) + 1, 5)
    placed = place_windows(points, offsets, render_settings)
    assert len(placed) == expected[-1] + 1
    for number, views in enumerate(placed):
        frames = [frame for frame in range(num_frames) if expected[frame] == number]
        np.testing.assert_allclose(views.centroid, points[frames[0] * 5 : frames[-1] * 5 + 5].mean(axis=0), atol=1e-5)


def place(points: list[tuple[float, float, float]], **chosen: object) -> tuple[SequenceViews, CameraBatch]:
    cloud = np.array(points, dtype=np.float32)
    views = place_cameras(cloud, np.array([0, len(cloud)]), RenderSettings(image_size=126, **chosen))  # type: ignore[arg-type]
    return views, batch_cameras([views], CPU)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_camera_around_the_subject_by_hand(swapped: bool) -> None:
    """A field of view of 90 degrees, of whose half 0.5 may be filled: a point 1 m aside fills it from 2 m away.

    Half the image is 63 px, so (1, 0, 0) is 63 / 2 px right of the middle, at depth 2, and a point 0.5 m above is 15.75 px above it.
    The box is 2 m x 1 m.
    """
    points = [(-1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, -0.5, 0.0), (0.0, 0.5, 0.0)]
    views, cameras = place([(y, x, z) for x, y, z in points] if swapped else points, field_of_view=90, margin=0.5)
    pixels, depth = project(np.array(points, dtype=np.float32)[:, [1, 0, 2] if swapped else [0, 1, 2]], cameras, 0)
    expected = np.array([[31.5, 63], [94.5, 63], [63, 47.25], [63, 78.75]])
    np.testing.assert_allclose(pixels, expected[:, ::-1] if swapped else expected, atol=1e-4)
    np.testing.assert_allclose(depth, 2, rtol=1e-6)
    np.testing.assert_allclose(views.depth_ranges, [[2, 2]], rtol=1e-6)
    wide, narrow = (30, 96), (46, 80)  # whole pixels, and one more: 31.5 to 94.5, 47.25 to 78.75
    assert views.bounds == (Bounds(*wide, *narrow) if swapped else Bounds(*narrow, *wide),)
    assert views.diagonal == pytest.approx(5**0.5)
    assert float(cameras.tolerance(0.01, torch.tensor([2.0]), torch.tensor([0]))) == pytest.approx(0.01 * 5**0.5)
    per_metre = cameras.pixels_per_metre(torch.full((1, 1, 1), 2.0), 0)
    assert [float(values) for values in per_metre] == pytest.approx([31.5, 31.5])


@pytest.mark.parametrize(
    ("points", "distance"),
    [
        ([(0, 0, -1), (0, 0, 1)], 1.2),  # on the axis, in front by 1 m, and a tenth of the box's 2 m
        ([(0, 0, 99_999), (0, 0, 100_001)], 21),  # far from the origin 2e-4 of 100 km is more: 20 m
        ([(-1, 0, -1), (1, 0, -1), (0, 0, 2)], 3),  # 1 m aside at 1 m in front: 1 / 0.5 + 1, more than what keeps the lens free
    ],
)
def test_how_far_a_camera_backs_off_by_hand(points: list[tuple[float, float, float]], distance: float) -> None:
    views, _ = place(points, field_of_view=90, margin=0.5)
    (camera,) = views.cameras
    centroid = np.mean(points, axis=0)
    local = camera.world_to_camera[:3, :3] @ centroid + camera.world_to_camera[:3, 3]
    np.testing.assert_allclose(local, [0, 0, distance], atol=1e-6)
    front, back = (point[2] - centroid[2] for point in (points[0], points[-1]))
    np.testing.assert_allclose(views.depth_ranges, [[distance + front, distance + back]], rtol=1e-6)


def test_views_go_round_by_hand() -> None:
    """Of four views the second looks along -x, from the right: the far point of the first view, at z = 1, is then on its right."""
    _, cameras = place([(0, 0, 1), (0, 0, -1), (1, 0, 0), (-1, 0, 0)], views=4)
    far = np.array([[0, 0, 1]], dtype=np.float32)
    columns = [float(project(far, cameras, view)[0][0, 0]) - 63 for view in range(4)]
    depths = [float(project(far, cameras, view)[1][0]) for view in range(4)]
    assert [round(column / max(map(abs, columns))) for column in columns] == [0, 1, 0, -1]
    assert depths[0] - depths[2] == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize(
    ("centre", "right"),
    [
        ((0, 0, 10), (1, 0, 0)),  # straight ahead
        ((10, 0, 0), (0, 0, -1)),  # to the right
        ((-10, 0, 0), (0, 0, 1)),
        ((0, 6, 8), (1, 0, 0)),  # downwards, as y goes down
        ((0, 0.005, 0), (1, 0, 0)),  # straight down
    ],
)
def test_a_camera_at_the_sensor_looks_at_the_centroid(centre: tuple[float, ...], right: tuple[float, ...]) -> None:
    """Two points, to either side by a twentieth of the distance, fill 0.8 of the image: a focal length of 63 * 0.8 / 0.05."""
    middle, aside = np.array(centre, dtype=np.float64), np.array(right, dtype=np.float64)
    reach = 0.05 * np.linalg.norm(middle)
    views, cameras = place([tuple(middle + reach * aside), tuple(middle - reach * aside)], camera="sensor", margin=0.8)
    (camera,) = views.cameras
    rotation = camera.world_to_camera[:3, :3]
    np.testing.assert_allclose(rotation[2], middle / np.linalg.norm(middle), atol=1e-6)
    np.testing.assert_allclose(rotation[0], aside, atol=1e-6)
    assert camera.intrinsics[0, 0] == pytest.approx(63 * 0.8 / 0.05, rel=1e-4)
    pixels, _ = project(np.float32([middle + reach * aside]), cameras, 0)
    np.testing.assert_allclose(pixels, [[63 * 1.8, 63]], atol=1e-2)


def test_a_tiny_subject_is_not_zoomed_beyond_a_thousandth() -> None:
    """A point 1 m aside at 10 km has tangent 1e-4; it is taken for 1e-3."""
    views, _ = place([(1, 0, 10_000), (-1, 0, 10_000)], camera="sensor", margin=0.8)
    assert views.cameras[0].intrinsics[0, 0] == pytest.approx(63 * 0.8 / 1e-3)


@pytest.mark.parametrize(("degrees", "fits"), [(59, True), (61, False)])
def test_a_camera_at_the_sensor_opens_to_sixty_degrees(degrees: float, fits: bool) -> None:
    aside = math.tan(math.radians(degrees))
    points = [(aside, 0.0, 1.0), (-aside, 0.0, 1.0)]
    if fits:
        assert place(points, camera="sensor")[0].cameras[0].intrinsics[0, 0] == pytest.approx(63 * 0.95 / aside)
    else:
        with pytest.raises(SettingsError, match="points lie 61 degrees off"):
            place(points, camera="sensor")


def test_bounds_by_hand() -> None:
    """Whole pixels and one more on every side, as far as the image goes; ends are excluded."""
    pixels = np.array([[10.2, 20.7], [30.9, 5.1]])
    assert Bounds.around(pixels, 126) == Bounds(top=4, bottom=22, left=9, right=32)
    assert Bounds.around(np.array([[0.5, 125.5]]), 126) == Bounds(top=124, bottom=126, left=0, right=2)
    assert Bounds.union([Bounds(4, 22, 9, 32), Bounds(2, 12, 11, 40)]) == Bounds(2, 22, 9, 40)
    assert Bounds(4, 22, 9, 32).grown(3, 126) == Bounds(1, 25, 6, 35)
    assert Bounds(4, 122, 9, 120).grown(10, 126) == Bounds(0, 126, 0, 126)
