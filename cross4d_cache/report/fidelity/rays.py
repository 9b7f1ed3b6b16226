"""Truth about visibility: rays from a camera to points, cast against a mesh. Open3D does the casting; it is imported when needed."""

import numpy as np
from jaxtyping import Float32, Float64

from cross4d_cache.datasets.mesh import Mesh, import_open3d
from cross4d_cache.types import Camera


def depth_behind(mesh: Mesh, points: Float32[np.ndarray, "point 3"], camera: Camera) -> Float64[np.ndarray, " point"]:
    """How far each point lies behind the first surface on the ray from the camera, metres along the ray.

    Negative for a point in front of that surface, minus infinity if the ray meets none at all.

    Raises:
        SettingsError: Open3D is not installed, or lacks a system library.
    """
    o3d = import_open3d()
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.core.Tensor(mesh.vertices), o3d.core.Tensor(mesh.triangles.astype(np.uint32)))
    origin = np.linalg.inv(camera.world_to_camera)[:3, 3]
    distance = np.linalg.norm(points - origin, axis=1)
    directions = (points - origin) / np.maximum(distance, 1e-12)[:, None]
    rays = np.concatenate([np.broadcast_to(origin, points.shape), directions], axis=1)
    hit = scene.cast_rays(o3d.core.Tensor(rays.astype(np.float32)))["t_hit"].numpy()
    behind: Float64[np.ndarray, " point"] = distance - hit
    return behind
