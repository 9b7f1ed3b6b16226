"""The baseline of stage one: a plain script as the nearest peers write it, frame by frame.

Sample 2,048 points, project them with one pinhole camera a sequence, keep the nearest of every pixel, shade, run the teacher on one image
(one window of a video teacher), project its patches, save a dense float16 target for every point: one `.pt` a frame. Reading, teacher,
projection and device are those of stage one; `python -m pipelines.benchmarks.build --peer` compares the two.
"""

import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from scipy.ndimage import minimum_filter
from torch import Tensor

from cross4d_cache.build.projection import make_projection
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.teachers.teacher import Teacher, plan_windows
from cross4d_cache.types import Camera, SequenceInfo
from pipelines.benchmarks.machine import folder_bytes

NUM_POINTS = 2048
PROJECTION = "random:384"
HALF_VIEW = np.radians(20.0)
BACKGROUND = np.inf

Clouds = list[Float32[np.ndarray, "point 3"]]


def peer_build(dataset: Dataset, teacher: Teacher, sequences: Sequence[SequenceInfo], out: Path) -> tuple[float, int]:
    """Make the targets of some sequences below `out`; seconds that it took, and bytes that it wrote."""
    begin = time.perf_counter()
    matrix = make_projection(PROJECTION, teacher.spec.channels, 0).matrix
    on_device = None if matrix is None else torch.from_numpy(matrix).to(teacher.device)
    for info in sequences:
        rng = np.random.default_rng(zlib.crc32(info.id.encode()))
        clouds = [sample(frame.points, rng) for frame in dataset.frames(info)]
        write_targets(clouds, place_camera(clouds, teacher.spec.image_size), teacher, on_device, out / info.id)
    return time.perf_counter() - begin, folder_bytes(out)


def sample(points: Float32[np.ndarray, "point 3"], rng: np.random.Generator) -> Float32[np.ndarray, "kept 3"]:
    """At most `NUM_POINTS` points of a frame."""
    return points[np.sort(rng.permutation(len(points))[:NUM_POINTS])]


def place_camera(clouds: Clouds, image_size: int) -> Camera:
    """A camera that looks along the z axis at the centroid of a sequence, far enough away to have all of it in the image."""
    points = np.concatenate(clouds).astype(np.float64)
    centroid = points.mean(axis=0)
    radius = np.linalg.norm(points - centroid, axis=1).max()
    pose = np.eye(4)
    pose[:3, 3] = [0, 0, radius / np.sin(HALF_VIEW)] - centroid
    focal, centre = image_size / 2 / np.tan(HALF_VIEW), image_size / 2
    intrinsics = np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1]])
    return Camera(intrinsics=intrinsics, world_to_camera=pose, image_size=image_size)


def write_targets(
    clouds: Clouds, camera: Camera, teacher: Teacher, matrix: Float32[Tensor, "channel_in channel_out"] | None, folder: Path
) -> None:
    """Save `TTTT.pt` for every frame: its points, which of them are visible, and a target for each, zeros where it is not."""
    folder.mkdir(parents=True)
    spec = teacher.spec
    for window in plan_windows(len(clouds), spec.window):
        seen = [see(clouds[frame], camera) for frame in window.frames]
        images = np.stack([shade(depth, camera) for depth, _, _ in seen])
        tokens = teacher(torch.from_numpy(images)[None].to(teacher.device)).tokens[0]
        projected = tokens if matrix is None else tokens @ matrix
        for place in range(window.first_owned, window.end_owned):
            _, pixels, visible = seen[place]
            patch = pixels[:, 1] // spec.patch_size * spec.patches_per_side + pixels[:, 0] // spec.patch_size
            features = projected[place // spec.tubelet, torch.from_numpy(patch).to(teacher.device)].half().cpu()
            features[~torch.from_numpy(visible)] = 0
            frame = {"points": torch.from_numpy(clouds[window.frames[place]]), "visible": torch.from_numpy(visible), "features": features}
            torch.save(frame, folder / f"{window.frames[place]:04d}.pt")


def see(
    points: Float32[np.ndarray, "point 3"], camera: Camera
) -> tuple[Float32[np.ndarray, "height width"], Int64[np.ndarray, "point 2"], Bool[np.ndarray, " point"]]:
    """Depth image, metres, the pixel (column, row) of every point, and whether the point is the nearest of its pixel."""
    size = camera.image_size
    coordinates, depth = camera.project(points)
    floored = np.floor(coordinates).astype(np.int64)
    inside = (depth > 0) & ((floored >= 0) & (floored < size)).all(axis=1)
    pixels = floored.clip(0, size - 1)
    nearest_first = np.argsort(np.where(inside, depth, BACKGROUND), kind="stable")[: inside.sum()]
    cells, first = np.unique((pixels[:, 1] * size + pixels[:, 0])[nearest_first], return_index=True)
    winners = nearest_first[first]
    buffer = np.full(size**2, BACKGROUND, np.float32)
    buffer[cells] = depth[winners]
    visible = np.zeros(len(points), dtype=bool)
    visible[winners] = True
    return buffer.reshape(size, size), pixels, visible


def shade(depth: Float32[np.ndarray, "height width"], camera: Camera) -> Float32[np.ndarray, "height width"]:
    """Brightness in [0, 1] from depth and from the slope of the surface; points are splatted over 3 x 3 pixels first."""
    splatted = minimum_filter(depth, size=3, mode="nearest")
    surface = np.isfinite(splatted)
    if not surface.any():
        return np.zeros_like(depth)
    near, far = splatted[surface].min(), splatted[surface].max()
    filled = np.where(surface, splatted, far)
    down, right = np.gradient(filled)
    focal = camera.intrinsics[0, 0]
    lambert = 1 / np.sqrt(1 + (down * focal / filled) ** 2 + (right * focal / filled) ** 2)
    tone = 1 - 0.5 * (filled - near) / max(far - near, 1e-6)
    return np.asarray(tone * (0.3 + 0.7 * lambert) * surface, dtype=np.float32)
