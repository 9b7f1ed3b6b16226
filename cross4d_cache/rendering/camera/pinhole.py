"""Pinhole cameras around a subject, or at the sensor.

Around it: one fixed camera a sequence (or window of it) and view (paper, section 3.1), aimed at the centroid of all frames and backed
off until every point of every frame lies inside the image, whatever the units. At the sensor, which sits at the origin of the
coordinates: aimed at the centroid, zoomed until every point lies inside. Poses are found once in float64.
"""

import math

import numpy as np
from jaxtyping import Float32, Float64, Int64

from cross4d_cache.errors import SettingsError
from cross4d_cache.rendering.camera.density import counted_rows, splat_size
from cross4d_cache.rendering.camera.views import Bounds, SequenceViews, yaw
from cross4d_cache.types import Camera, RenderSettings

WIDEST_DEGREES = 60
"""The half angle up to which a pinhole at the sensor opens."""


def place(
    points: Float32[np.ndarray, "point 3"], point_offsets: Int64[np.ndarray, " boundary"], settings: RenderSettings, *, tracked: bool
) -> SequenceViews:
    """The cameras of a sequence from all points of all its frames (metres, OpenCV axes; frames as in `PointCloudSequence`).

    View 0 looks along +z, the others follow by equal steps of yaw about the vertical axis; a camera at the sensor looks at the
    centroid.

    Raises:
        SettingsError: seen from the sensor, points lie too far apart for one image.
    """
    offsets = np.ascontiguousarray(points.T, dtype=np.float64)  # a row for each axis: along it numpy is several times as fast
    centroid = offsets.mean(axis=1)
    offsets -= centroid[:, None]
    diagonal = float(np.linalg.norm(np.ptp(offsets, axis=1))) or 1.0
    middle, rows = settings.image_size / 2, counted_rows(points, point_offsets, settings)
    cameras, ranges, splats, bounds = [], [], [], []
    for view in range(settings.views):
        if settings.camera == "sensor":
            rotation = _towards(centroid)
            local = np.einsum("ij,jp->ip", rotation, offsets)
            shift = rotation @ centroid
            focal = _zoom(local + shift[:, None], settings)
        else:
            rotation = yaw(2 * math.pi * view / settings.views)
            local = np.einsum("ij,jp->ip", rotation, offsets)
            shift = np.array([0, 0, _distance(local, centroid, diagonal, settings)])
            focal = middle / math.tan(math.radians(settings.field_of_view) / 2)
        pose = np.eye(4)
        pose[:3, :3] = rotation
        pose[:3, 3] = shift - rotation @ centroid
        intrinsics = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1]])
        cameras.append(Camera(intrinsics=intrinsics, world_to_camera=pose, image_size=settings.image_size))
        local += shift[:, None]
        ranges.append([local[2].min(), local[2].max()])
        slopes = np.divide(local[:2], local[2], out=local[:2])
        sampled = [(slopes[:, frame] * focal + middle).T for frame in rows]
        splats.append(splat_size(sampled, settings, tracked=tracked))
        # The outermost points are outermost in pixels too: rounding keeps the order.
        ends = np.stack([slopes.min(axis=1), slopes.max(axis=1)]) * focal + middle
        bounds.append(Bounds.around(ends, settings.image_size))
    return SequenceViews(
        cameras=tuple(cameras),
        depth_ranges=np.array(ranges),
        centroid=centroid,
        diagonal=diagonal,
        splat_sizes=tuple(splats),
        bounds=tuple(bounds),
    )


def _distance(
    local: Float64[np.ndarray, "3 point"], centroid: Float64[np.ndarray, " 3"], diagonal: float, settings: RenderSettings
) -> float:
    """How far a camera backs off from the centroid so that every point, given in its axes about the centroid, is in its image."""
    half = settings.margin * math.tan(math.radians(settings.field_of_view) / 2)
    across = np.abs(local[:2])
    reach = np.maximum(across[0], across[1], out=across[0])
    reach /= half
    reach -= local[2]
    # The nearest point may sit on the axis, where any distance keeps it inside the image: keep it off the lens as well, and
    # so far that steps of float32 at its place stay well below a pixel.
    clearance = max(0.1 * diagonal, 2e-4 * float(np.linalg.norm(centroid)))
    return max(float(reach.max()), float(-local[2].min()) + clearance)


def _towards(centroid: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, "3 3"]:
    """World-to-camera rotation of a camera at the origin that looks at `centroid`, its rows level; straight ahead if it is the origin."""
    x, y, z = centroid
    across = math.hypot(x, z) or float(y == 0)
    cos, sin = across / math.hypot(across, y), y / math.hypot(across, y)
    pitch = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return np.asarray(pitch @ yaw(-math.atan2(x, z)))


def _zoom(local: Float64[np.ndarray, "3 point"], settings: RenderSettings) -> float:
    """Focal length, px, with which the points, given in the camera's axes, fill `margin` of the image."""
    tangent = np.maximum(np.abs(local[0]), np.abs(local[1])) / np.maximum(local[2], 1e-9)
    widest = math.degrees(math.atan(float(tangent.max())))
    if widest > WIDEST_DEGREES:
        raise SettingsError(
            f"seen from the sensor, points lie {widest:.0f} degrees off their centroid",
            expected=f"at most {WIDEST_DEGREES}, as a pinhole image is flat",
            hint="pass `camera` sequence, or, for scans that go all round, `camera_model` spherical",
        )
    return settings.image_size / 2 * settings.margin / max(float(tangent.max()), 1e-3)
