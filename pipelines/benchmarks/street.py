"""A made-up street around a LiDAR: meshes of it, and scans. OpenCV axes, metres, the sensor at the origin, 1.8 m above the ground."""

import numpy as np
from jaxtyping import Float32, Float64
from numpy.typing import ArrayLike

from cross4d_cache.datasets.mesh import import_open3d

SENSOR_HEIGHT = 1.8
LONGEST = 80.0
"""Range of the sensor, metres."""

ELEVATIONS = (-0.28, 0.44)
"""Highest and lowest beam, radians; positive is down."""


UPRIGHT: Float64[np.ndarray, "3 3"] = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""Takes z to the vertical."""


def street_mesh(second: float):  # type: ignore[no-untyped-def]  # open3d has no types
    """Triangle mesh of the street at an instant: ground, houses on both sides, parked cars, poles, and people who walk past."""
    o3d = import_open3d()
    make = o3d.geometry.TriangleMesh
    rng = np.random.default_rng(0)
    corners = np.array([[x, SENSOR_HEIGHT, z] for x, z in ((-100.0, -100.0), (100.0, -100.0), (100.0, 100.0), (-100.0, 100.0))])
    mesh = make(o3d.utility.Vector3dVector(corners), o3d.utility.Vector3iVector(np.array([[0, 1, 2], [0, 2, 3]])))
    for side in (-1, 1):
        for place in range(-70, 75, 14):
            height = float(rng.uniform(6, 12))
            mesh += _box((side * (14 + rng.uniform(0, 3)), SENSOR_HEIGHT - height / 2, place), (8, height, rng.uniform(9, 13)))
        for place in range(-45 + 2 * side, 50, 9):
            centre = np.array([side * 5.5, SENSOR_HEIGHT, place + rng.uniform(-1, 1)])
            mesh += _box(centre - [0, 0.65, 0], (1.8, 0.9, 4.3)) + _box(centre - [0, 1.3, 0.2], (1.5, 0.5, 2.2))
            mesh += _post(centre + np.array([side * 2.2, 0, 3.5]), 0.12, 6)
    for walker in range(12):
        speed, side = rng.uniform(0.8, 1.6) * (-1) ** walker, (-1) ** (walker // 2)
        foot = np.array([side * rng.uniform(7.9, 9.2), SENSOR_HEIGHT, rng.uniform(-20, 20) + speed * second])
        for sway in (-1, 1):
            step = np.array([sway * 0.11, 0, sway * 0.25 * np.sin(4 * second + walker)])
            mesh += _post(foot + step, 0.09, 0.85)
        mesh += _post(foot - np.array([0, 0.85, 0]), 0.2, 0.6)
        mesh += make.create_sphere(0.13, 12).translate(foot - [0, 1.62, 0])
    return mesh


def _box(centre: ArrayLike, sides: tuple[float, float, float]):  # type: ignore[no-untyped-def]
    return import_open3d().geometry.TriangleMesh.create_box(*sides).translate(np.asarray(centre) - np.asarray(sides) / 2)


def _post(foot: Float64[np.ndarray, " 3"], radius: float, height: float):  # type: ignore[no-untyped-def]
    """An upright cylinder."""
    post = import_open3d().geometry.TriangleMesh.create_cylinder(radius, height, 16)
    return post.rotate(UPRIGHT, (0, 0, 0)).translate(foot - np.array([0, height / 2, 0]))


def scan(mesh, *, beams: int = 64, azimuths: int = 1024, shift: float = 0.0, layer: int = 0) -> Float32[np.ndarray, "point 3"]:  # type: ignore[no-untyped-def]
    """What the rays of a LiDAR meet, beam by beam: `layer` 0 is the first surface, 1 the one behind it, which no real sensor sees.

    All rays are moved by `shift` of the step between rays.
    """
    o3d = import_open3d()
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(mesh))
    elevation = np.linspace(*ELEVATIONS, beams) + shift * (ELEVATIONS[1] - ELEVATIONS[0]) / (beams - 1)
    azimuth = (np.arange(azimuths) + shift) * (2 * np.pi / azimuths)
    down, across = np.sin(elevation)[:, None], np.cos(elevation)[:, None]
    directions = np.stack(np.broadcast_arrays(across * np.sin(azimuth), down, across * np.cos(azimuth)), axis=-1).reshape(-1, 3)
    rays = np.concatenate([np.zeros_like(directions), directions], axis=1).astype(np.float32)
    hits = {name: values.numpy() for name, values in scene.list_intersections(o3d.core.Tensor(rays)).items()}
    order = np.lexsort([hits["t_hit"], hits["ray_ids"]])
    ray, distance = hits["ray_ids"][order].astype(np.int64), hits["t_hit"][order]
    first = np.searchsorted(ray, ray)
    chosen = (np.arange(len(ray)) - first == layer) & (distance < LONGEST)
    points: Float32[np.ndarray, "point 3"] = (directions[ray[chosen]] * distance[chosen, None]).astype(np.float32)
    return points
