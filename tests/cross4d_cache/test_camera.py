import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cross4d_cache.camera import CameraBatch, batch_cameras, place_cameras, place_windows
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


@settings(max_examples=200, deadline=None)
@given(clouds())
def test_every_point_lies_inside_every_image(points: np.ndarray) -> None:
    cameras = batch_cameras([place_cameras(points, np.array([0, len(points)]), SETTINGS)], CPU)
    for view in range(4):
        pixels, depth = project(points, cameras, view)
        assert (depth > 0).all()
        assert (pixels > 0).all()
        assert (pixels < SETTINGS.image_size).all()


@settings(max_examples=200, deadline=None)
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


@settings(max_examples=200, deadline=None)
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
