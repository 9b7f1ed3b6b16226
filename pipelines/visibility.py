"""How well the z-buffer tells visible points from hidden ones: against ray casting on the meshes of synthetic bodies.

    python -m pipelines.visibility [--image-size 224] [--bodies 24] [--json]

`surface`: points are drawn from the whole surface, hidden side included, at the density at which stage one keeps the points of a sensor
that sees one side (4,096 on the side that a camera sees). `sensor`: the points that stage one keeps of the dataset's own frames.
`scan`: a LiDAR of 64 beams and 1,024 azimuths in a street, seen by spherical cameras; `scan+`: with as many rays again that go through the
first surface to the one behind.
A point is truly visible if the ray to it meets the mesh no farther in front of
it than the tolerance of stage one; `strict` allows 1 cm.
"""

import argparse
import json
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64

from cross4d_cache.camera import SequenceViews, batch_cameras, place_cameras
from cross4d_cache.correspondence import correspond
from cross4d_cache.datasets import open_dataset
from cross4d_cache.datasets.synthetic.dataset import Synthetic
from cross4d_cache.datasets.synthetic.primitives import PosedPrimitives
from cross4d_cache.frames import prepare
from cross4d_cache.render import render
from cross4d_cache.types import Camera, RenderSettings
from pipelines.street import scan, street_mesh

STRICT_METRES = 0.01
DEFAULT_POINTS = 4096
SOURCES = {"surface": 4, "sensor": 1}
"""Where points come from, and the number of cameras: those around the body see no surface that its one sensor did not."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Precision and recall of visibility."""

    precision: float
    recall: float


def body_mesh(primitives: PosedPrimitives, frame: int):  # type: ignore[no-untyped-def]  # open3d has no types
    """Triangle mesh of all primitives of a frame, sensor coordinates, metres."""
    import open3d as o3d

    mesh = o3d.geometry.TriangleMesh()
    ends, radii = primitives.capsules(frame)
    for (start, end), radius in zip(ends.astype(float), radii.astype(float), strict=True):
        length = float(np.linalg.norm(end - start))
        if length > 1e-6:
            tube = o3d.geometry.TriangleMesh.create_cylinder(radius, length, 40, 8)
            tube.rotate(_frame_along((end - start) / length), center=(0, 0, 0))
            mesh += tube.translate((start + end) / 2)
        for centre in (start, end):
            mesh += o3d.geometry.TriangleMesh.create_sphere(radius, 24).translate(centre)
    for centre, rotation, half_axes in zip(*primitives.ellipsoids(frame), strict=True):
        ball = o3d.geometry.TriangleMesh.create_sphere(1.0, 30)
        shape = np.asarray(ball.vertices) * half_axes @ rotation.T + centre
        ball.vertices = o3d.utility.Vector3dVector(shape.astype(float))
        mesh += ball
    return mesh


def _frame_along(axis: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, "3 3"]:
    """A rotation that takes z to `axis`."""
    side = np.cross(axis, [1.0, 0, 0] if abs(axis[0]) < 0.9 else [0, 1.0, 0])
    side /= np.linalg.norm(side)
    return np.stack([side, np.cross(axis, side), axis], axis=1)


def outer_points(mesh, primitives: PosedPrimitives, frame: int, seed: int) -> Float32[np.ndarray, "point 3"]:  # type: ignore[no-untyped-def]
    """Points drawn evenly from the surface, without those that lie inside another primitive."""
    import open3d as o3d

    o3d.utility.random.seed(seed)
    points = np.asarray(mesh.sample_points_uniformly(40_000).points)
    outside = np.ones(len(points), dtype=bool)
    ends, radii = primitives.capsules(frame)
    for (start, end), radius in zip(ends.astype(float), radii.astype(float), strict=True):
        axis = end - start
        place = np.clip((points - start) @ axis / max(float(axis @ axis), 1e-12), 0, 1)
        outside &= np.linalg.norm(points - start - place[:, None] * axis, axis=1) > 0.97 * radius
    for centre, rotation, half_axes in zip(*primitives.ellipsoids(frame), strict=True):
        outside &= np.linalg.norm((points - centre) @ rotation / half_axes, axis=1) > 0.97
    return points[outside].astype(np.float32)


def depth_behind_mesh(mesh, points: Float32[np.ndarray, "point 3"], camera: Camera) -> Float64[np.ndarray, " point"]:  # type: ignore[no-untyped-def]
    """How far each point lies behind the first surface on the ray from the camera, metres."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(mesh))
    origin = np.linalg.inv(camera.world_to_camera)[:3, 3]
    distance = np.linalg.norm(points - origin, axis=1)
    rays = np.concatenate([np.broadcast_to(origin, points.shape), (points - origin) / distance[:, None]], axis=1)
    hit = scene.cast_rays(o3d.core.Tensor(rays.astype(np.float32)))["t_hit"].numpy()
    behind: Float64[np.ndarray, " point"] = distance - np.minimum(hit, distance)
    return behind


def surface_points(mesh, primitives: PosedPrimitives, frame: int, settings: RenderSettings, seed: int) -> Float32[np.ndarray, "point 3"]:  # type: ignore[no-untyped-def]
    """As many points of the whole surface as put the default number on the side that the first camera sees."""
    points = outer_points(mesh, primitives, frame, seed)
    camera = place_cameras(points, np.array([0, len(points)]), settings).cameras[0]
    seen = depth_behind_mesh(mesh, points, camera) < STRICT_METRES
    count = min(len(points), round(DEFAULT_POINTS / seen.mean()))
    return np.random.default_rng(seed).permutation(points)[:count]


def z_buffer_visibility(
    points: Float32[np.ndarray, "point 3"], views: SequenceViews, settings: RenderSettings
) -> Bool[np.ndarray, "view point"]:
    """What stage one finds for the points of one frame."""
    cameras = batch_cameras([views], torch.device("cpu"))
    image = torch.arange(settings.views).repeat_interleave(len(points))
    cloud = torch.from_numpy(points).repeat(settings.views, 1)
    found = correspond(render(cloud, image, cameras, settings), image, cameras, settings, patch_size=settings.image_size // 8)
    return found.visible.numpy().reshape(settings.views, len(points))


def compare(dataset: Synthetic, sequence: int, settings: RenderSettings, source: str) -> dict[str, Bool[np.ndarray, "view point"]]:
    """Visibility by z-buffer and by ray casting (with stage one's tolerance, and strictly) in the middle frame of a sequence."""
    info = dataset.sequences()[sequence]
    primitives, frame = dataset.primitives(info), info.num_frames // 2
    mesh = body_mesh(primitives, frame)
    if source == "surface":
        points = surface_points(mesh, primitives, frame, settings, seed=sequence)
        views = place_cameras(points, np.array([0, len(points)]), settings)
    else:
        prepared = prepare(info, dataset.frames(info), settings, points_per_frame=DEFAULT_POINTS, seed=0)
        points = prepared.points[prepared.point_offsets[frame] : prepared.point_offsets[frame + 1]]
        views = prepared.views[0]
    behind = np.stack([depth_behind_mesh(mesh, points, camera) for camera in views.cameras])
    return {
        "z-buffer": z_buffer_visibility(points, views, settings),
        "tolerance": behind <= settings.depth_tolerance * views.diagonal,
        "strict": behind <= STRICT_METRES,
    }


def agreement(found: Bool[np.ndarray, "*"], true: Bool[np.ndarray, "*"]) -> Agreement:
    """Precision and recall of `found`."""
    both = float((found & true).sum())
    return Agreement(precision=both / float(found.sum()), recall=both / float(true.sum()))


def measure(image_size: int, num_bodies: int, source: str) -> dict[str, Agreement]:
    """Precision and recall over `num_bodies` bodies spread over the synthetic dataset, points from `source`."""
    dataset = open_dataset("synthetic", options={"noise": "0"})
    assert isinstance(dataset, Synthetic)
    chosen = np.linspace(0, len(dataset.sequences()) - 1, num_bodies).astype(int)
    settings = RenderSettings(image_size=image_size, views=SOURCES[source])
    results = [compare(dataset, int(sequence), settings, source) for sequence in chosen]
    joined = {key: np.concatenate([result[key].ravel() for result in results]) for key in results[0]}
    return {key: agreement(joined["z-buffer"], joined[key]) for key in ("tolerance", "strict")}


def measure_scan(image_size: int, source: str) -> dict[str, Agreement]:
    """Precision and recall of a LiDAR's points in a street, over all views together."""
    mesh = street_mesh(second=1.0)
    points = scan(mesh)
    if source == "scan+":
        points = np.concatenate([points, scan(mesh, shift=0.5, layer=1)])
    settings = RenderSettings(camera_model="spherical", image_size=image_size, views=8)
    views = place_cameras(points, np.array([0, len(points)]), settings)
    found = z_buffer_visibility(points, views, settings).max(axis=0)
    behind = depth_behind_mesh(mesh, points, views.cameras[0])
    true = behind <= settings.depth_tolerance * np.linalg.norm(points, axis=1)
    return {"tolerance": agreement(found, true)}


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, nargs="+", default=[112, 126, 224, 256])
    parser.add_argument("--bodies", type=int, default=24)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    report = {(size, source): measure(size, args.bodies, source) for source in SOURCES for size in args.image_size}
    report |= {(size, source): measure_scan(size, source) for source in ("scan", "scan+") for size in args.image_size}
    if args.json:
        rows = [
            {"image_size": size, "points": source, **{key: asdict(value) for key, value in row.items()}}
            for (size, source), row in report.items()
        ]
        print(json.dumps(rows))
        return
    print("points   image px  truth      precision  recall")
    for (size, source), row in report.items():
        for key, value in row.items():
            print(f"{source:7s}  {size:8d}  {key:9s}  {value.precision:9.3f}  {value.recall:6.3f}")


if __name__ == "__main__":
    main()
