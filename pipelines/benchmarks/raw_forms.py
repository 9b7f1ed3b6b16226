"""Synthetic bodies, written in the on-disk forms of the benchmarks at their real sizes, for measuring readers without their data."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float32, UInt16
from PIL import Image

from cross4d_cache.datasets.mesh import import_open3d
from cross4d_cache.datasets.synthetic.dataset import Synthetic, SyntheticOptions
from cross4d_cache.types import PointCloudSequence

NUM_FRAMES = 40
H5_SEQUENCES = 1700
"""Sequences that the semantic file declares: 50 GB of points, of which only the first sequence is on disk."""


@dataclass(frozen=True)
class RawForm:
    """One form: a name, the dataset and options that read it, and what writes two sequences of it into a folder."""

    name: str
    dataset: str
    write: Callable[[Path], None]
    options: Mapping[str, str] = field(default_factory=dict)


def _dataset(resolution: float) -> Synthetic:
    return Synthetic(
        None, SyntheticOptions(num_humans=1, num_animals=1, min_frames=NUM_FRAMES, max_frames=NUM_FRAMES, resolution=resolution)
    )


def _bodies(resolution: float = 1.0) -> Iterator[PointCloudSequence]:
    """A walking person and a walking animal, before a depth sensor."""
    dataset = _dataset(resolution)
    for name in ("human00_walk_r00", "animal00_walk_r00"):
        yield dataset.read(next(info for info in dataset.sequences() if info.id == name))


def _images(sequence: PointCloudSequence, width: int, height: int, focal: float, unit: float) -> Iterator[UInt16[np.ndarray, "row column"]]:
    """Depth images of a sequence, `unit` metres a step, 0 where there is nothing."""
    for frame in sequence.frames():
        x, y, z = frame.points.T
        column, row = (np.rint(axis / z * focal + size / 2).astype(int) for axis, size in ((x, width), (y, height)))
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        image = np.full((height, width), 65_535, np.uint16)
        np.minimum.at(image, (row[inside], column[inside]), np.rint(z[inside] / unit).astype(np.uint16))
        yield np.where(image == 65_535, 0, image).astype(np.uint16)


def _write_msr(folder: Path) -> None:
    for name, sequence in zip(("a16_s01_e01", "a16_s06_e01"), _bodies(), strict=True):
        depth = np.stack(list(_images(sequence, 320, 240, 285.62, 0.005))).astype("<u4")
        header = np.array([len(depth), 320, 240], "<u4").tobytes()
        (folder / f"{name}_sdepth.bin").write_bytes(header + depth.tobytes())


def _ragged(frames: list[Float32[np.ndarray, "point 3"]]) -> np.ndarray:
    array = np.empty(len(frames), object)
    array[:] = frames
    return array


def _write_msr_npz(folder: Path) -> None:
    for name, sequence in zip(("a16_s01_e01", "a16_s06_e01"), _bodies(), strict=True):
        frames = [(frame.points / 0.005 * [285.62 / 280, 285.62 / 280, 1]).astype(np.float64) for frame in sequence.frames()]
        np.savez_compressed(folder / f"{name}_sdepth.npz", point_clouds=_ragged(frames))


def _write_ntu(folder: Path) -> None:
    for name, sequence in zip(("S001C001P001R001A059", "S001C002P003R001A059"), _bodies(1.3), strict=True):
        target = folder / "nturgb+d_depth_masked" / name
        target.mkdir(parents=True)
        for number, image in enumerate(_images(sequence, 512, 424, 366.0, 0.001), start=1):
            Image.fromarray(image).save(target / f"MDepth-{number:08d}.png")


def _write_ntu_npz(folder: Path) -> None:
    for name, sequence in zip(("S001C001P001R001A059", "S001C002P003R001A059"), _bodies(1.3), strict=True):
        frames = []
        for image in _images(sequence, 512, 424, 366.0, 0.001):
            row, column = np.nonzero(image)
            z = image[row, column].astype(np.float32) / np.float32(65_535)
            frames.append(np.stack([(column - 256) / 280 * z, (row - 212) / 280 * z, z], axis=1).astype(np.float32))
        np.savez_compressed(folder / f"{name}.npz", data=_ragged(frames))


def _write_anime(folder: Path) -> None:
    dataset = _dataset(1.0)
    for name, source in (("tigerD8H_Walk", "animal00_walk_r00"), ("bear3EP_Run", "animal00_gallop_r00")):
        info = next(info for info in dataset.sequences() if info.id == source)
        meshes = [dataset.mesh(info, frame) for frame in range(NUM_FRAMES)]
        vertices = np.stack([mesh.vertices for mesh in meshes])[..., [0, 2, 1]] * [1, 1, -1]  # z up
        triangles = meshes[0].triangles
        target = folder / "animals" / name
        target.mkdir(parents=True)
        header = np.array([NUM_FRAMES, vertices.shape[1], len(triangles)], "<i4")
        offsets = (vertices[1:] - vertices[0]).astype("<f4")
        blocks = (header, vertices[0].astype("<f4"), triangles.astype("<i4"), offsets)
        (target / f"{name}.anime").write_bytes(b"".join(block.tobytes() for block in blocks))


def _write_rendered(folder: Path) -> None:
    for name, sequence in zip(("tigerD8H_Walk", "bear3EP_Run"), _bodies(1.8), strict=True):
        (folder / name / "depth").mkdir(parents=True)
        np.savetxt(folder / name / "cam_intr.txt", np.array([[519.934, 0, 300], [0, 519.934, 250], [0, 0, 1]]))
        np.savetxt(folder / name / "cam_extr.txt", np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]]))  # z up
        for number, image in enumerate(_images(sequence, 600, 500, 519.934, 0.001)):
            Image.fromarray(image).save(folder / name / "depth" / f"{number:04d}.png")


def _thinned(sequence: PointCloudSequence, count: int, num_frames: int) -> Float32[np.ndarray, "frame point 3"]:
    rng = np.random.default_rng(0)
    frames = [sequence.frame(t % sequence.num_frames) for t in range(num_frames)]
    return np.stack([points[rng.integers(len(points), size=count)] for points in frames])


def _write_semantic(folder: Path) -> None:
    body = next(_bodies())
    with h5py.File(folder / "train1.h5", "w") as file:
        points = file.create_dataset("pcd", (H5_SEQUENCES, 300, 8192, 3), "f4")
        points[0] = _thinned(body, 8192, 300)
        file.create_dataset("center", (H5_SEQUENCES, 300, 3), "f4")
        file.create_dataset("semantic", (H5_SEQUENCES, 300, 8192), "u1")[0] = 47


def _write_action(folder: Path) -> None:
    with h5py.File(folder / "train1.h5", "w") as file:
        clouds = np.stack([_thinned(body, 2048, 150) for body in _bodies()])
        file.create_dataset("pcd", data=clouds)
        file.create_dataset("center", data=clouds.mean(axis=2))
        file.create_dataset("label", data=np.tile(np.arange(150) // 10, (2, 1)))


def _write_hoi4d_raw(folder: Path) -> None:
    body = next(_bodies(4.0))
    target = folder / "ZY20210800001" / "H1" / "C1" / "N19" / "S100" / "s02" / "T1"
    (target / "align_depth").mkdir(parents=True)
    (target / "3Dseg").mkdir()
    poses = []
    for number, image in enumerate(_images(body, 1920, 1080, 1060.3, 0.001)):
        Image.fromarray(image).save(target / "align_depth" / f"{number:05d}.png", compress_level=1)
        poses.append(f"{number} {number} {number + 1}\n1 0 0 {number / 1000}\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    (target / "3Dseg" / "output.log").write_text("".join(poses))


def _scan() -> Float32[np.ndarray, "point 4"]:
    """A turn of a 64-beam LiDAR on a plain with walls 20 m away: x forward, y left, z up, intensity."""
    azimuth, elevation = np.meshgrid(np.linspace(-np.pi, np.pi, 1800, endpoint=False), np.radians(np.linspace(-24.8, 2, 64)))
    ray = np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=-1)
    ground = np.where(ray[..., 2] < 0, 1.73 / np.maximum(-ray[..., 2], 1e-9), np.inf)
    walls = 20 / np.maximum(np.abs(ray[..., 0]), np.abs(ray[..., 1]))
    cloud = (ray * np.minimum(ground, walls)[..., None]).reshape(-1, 3)
    return np.concatenate([cloud, np.zeros((len(cloud), 1))], axis=1).astype(np.float32)


def _write_kitti(folder: Path) -> None:
    (folder / "drive").mkdir()
    scan = _scan()
    for number in range(NUM_FRAMES):
        scan.tofile(folder / "drive" / f"{number:06d}.bin")


def _write_folder(kind: str, folder: Path) -> None:
    """One folder a sequence, one file a frame; points as they come from the sensor, some 10,000 to 30,000."""
    for name, sequence in zip(("person", "animal"), _bodies(1.3), strict=True):
        (folder / name).mkdir()
        for number, frame in enumerate(sequence.frames()):
            path = folder / name / f"{number:04d}.{kind}"
            if kind == "npy":
                np.save(path, frame.points)
            elif kind == "npz":
                np.savez_compressed(path, points=frame.points)
            else:
                o3d = import_open3d()
                cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(frame.points.astype(np.float64)))
                o3d.io.write_point_cloud(str(path), cloud, compressed=True)


LIDAR_AXES = {"axes": "-y,-z,x"}
FORMS = (
    RawForm("msr_action3d bin", "msr_action3d", _write_msr),
    RawForm("msr_action3d npz", "msr_action3d", _write_msr_npz),
    RawForm("ntu_rgbd masked", "ntu_rgbd", _write_ntu),
    RawForm("ntu_rgbd npz", "ntu_rgbd", _write_ntu_npz),
    RawForm("deforming_things4d anime", "deforming_things4d", _write_anime),
    RawForm("deforming_things4d rendered", "deforming_things4d", _write_rendered),
    RawForm("hoi4d semantic", "hoi4d", _write_semantic),
    RawForm("hoi4d action", "hoi4d", _write_action),
    RawForm("hoi4d raw", "hoi4d", _write_hoi4d_raw),
    RawForm("folder kitti bin", "folder", _write_kitti, LIDAR_AXES),
    *(RawForm(f"folder {kind}", "folder", partial(_write_folder, kind)) for kind in ("ply", "pcd", "xyz", "npy", "npz")),
)
