"""How well the z-buffer tells visible points from hidden ones: against ray casting on the meshes of synthetic bodies.

    python -m pipelines.benchmarks.visibility [--image-size 224] [--bodies 24] [--json]

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

from cross4d_cache.build.preparation import prepare
from cross4d_cache.datasets import open_dataset
from cross4d_cache.datasets.mesh import Mesh
from cross4d_cache.datasets.synthetic.dataset import Synthetic
from cross4d_cache.datasets.synthetic.primitives import PosedPrimitives
from cross4d_cache.errors import user_errors
from cross4d_cache.rendering.camera import SequenceViews, place_cameras
from cross4d_cache.rendering.correspondence import correspond
from cross4d_cache.rendering.projection import batch_cameras
from cross4d_cache.rendering.render import render
from cross4d_cache.report.fidelity.rays import depth_behind
from cross4d_cache.types import RenderSettings
from pipelines.benchmarks.street import scan, street_mesh

STRICT_METRES = 0.01
DEFAULT_POINTS = 4096
SOURCES = {"surface": 4, "sensor": 1}
"""Where points come from, and the number of cameras: those around the body see no surface that its one sensor did not."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Precision and recall of visibility."""

    precision: float
    recall: float


def outer_points(mesh: Mesh, primitives: PosedPrimitives, frame: int, seed: int) -> Float32[np.ndarray, "point 3"]:
    """Points drawn evenly from the surface, without those that lie inside another primitive."""
    points = evenly(mesh, 40_000, seed)
    outside = np.ones(len(points), dtype=bool)
    ends, radii = primitives.capsules(frame)
    for (start, end), radius in zip(ends.astype(float), radii.astype(float), strict=True):
        axis = end - start
        place = np.clip((points - start) @ axis / max(float(axis @ axis), 1e-12), 0, 1)
        outside &= np.linalg.norm(points - start - place[:, None] * axis, axis=1) > 0.97 * radius
    for centre, rotation, half_axes in zip(*primitives.ellipsoids(frame), strict=True):
        outside &= np.linalg.norm((points - centre) @ rotation / half_axes, axis=1) > 0.97
    return points[outside].astype(np.float32)


def evenly(mesh: Mesh, count: int, seed: int) -> Float64[np.ndarray, "point 3"]:
    """Points drawn from a mesh, as many to every piece of equal area."""
    rng = np.random.default_rng(seed)
    a, b, c = (mesh.vertices[mesh.triangles[:, corner]].astype(np.float64) for corner in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    chosen = rng.choice(len(areas), count, p=areas / areas.sum())
    u, v = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    points: Float64[np.ndarray, "point 3"] = (1 - u) * a[chosen] + u * (1 - v) * b[chosen] + u * v * c[chosen]
    return points


def surface_points(
    mesh: Mesh, primitives: PosedPrimitives, frame: int, settings: RenderSettings, seed: int
) -> Float32[np.ndarray, "point 3"]:
    """As many points of the whole surface as put the default number on the side that the first camera sees."""
    points = outer_points(mesh, primitives, frame, seed)
    camera = place_cameras(points, np.array([0, len(points)]), settings).cameras[0]
    seen = depth_behind(mesh, points, camera) < STRICT_METRES
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
    mesh = dataset.mesh(info, frame)
    if source == "surface":
        points = surface_points(mesh, primitives, frame, settings, seed=sequence)
        views = place_cameras(points, np.array([0, len(points)]), settings)
    else:
        prepared = prepare(info, dataset.frames(info), settings, points_per_frame=DEFAULT_POINTS, seed=0)
        points = prepared.points[prepared.point_offsets[frame] : prepared.point_offsets[frame + 1]]
        views = prepared.views[0]
    behind = np.stack([depth_behind(mesh, points, camera) for camera in views.cameras])
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
    street = street_mesh(second=1.0)
    points = scan(street)
    if source == "scan+":
        points = np.concatenate([points, scan(street, shift=0.5, layer=1)])
    mesh = Mesh(vertices=np.asarray(street.vertices, dtype=np.float32), triangles=np.asarray(street.triangles, dtype=np.int64))
    settings = RenderSettings(camera_model="spherical", image_size=image_size, views=8)
    views = place_cameras(points, np.array([0, len(points)]), settings)
    found = z_buffer_visibility(points, views, settings).max(axis=0)
    behind = depth_behind(mesh, points, views.cameras[0])
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
    with user_errors():
        main()
