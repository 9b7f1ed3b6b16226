"""The z-buffer against Open3D's ray casting on the meshes of synthetic bodies: `python -m pipelines.benchmarks.visibility` reports it."""

import pytest

from pipelines.benchmarks.visibility import measure

pytestmark = pytest.mark.usefixtures("open3d")


@pytest.mark.parametrize("image_size", [126, 224])
def test_visibility_agrees_with_ray_casting(image_size: int) -> None:
    report = measure(image_size, num_bodies=4, source="surface")
    assert report["tolerance"].precision >= 0.945  # .95 over more bodies, give or take .003 by which points are drawn
    assert report["tolerance"].recall >= 0.95
    assert report["strict"].precision >= 0.88
    assert report["strict"].recall >= 0.95


@pytest.mark.parametrize("image_size", [126, 224, 256])
def test_visibility_of_a_sensors_own_points_agrees_with_ray_casting(image_size: int) -> None:
    report = measure(image_size, num_bodies=4, source="sensor")["tolerance"]
    assert report.precision >= 0.95
    assert report.recall >= 0.95
