"""HOI4D in three forms: the two challenges' HDF5 files, and RGB-D recordings.

Images and text are written by hand from their specifications, HDF5 by h5py.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.cross4d_cache.datasets.examples.example import Example


def write_h5(
    path: Path, sequences: int, frames: int, points: int, labels: str | None, *, seed: int = 0, chunk: tuple[int, ...] = ()
) -> None:
    """A challenge file of a sphere over a floor, about 1 m large; `labels` names the array of labels, `chunk` shapes gzipped chunks."""
    rng = np.random.default_rng(seed)
    cloud = rng.normal(size=(sequences, frames, points, 3))
    cloud *= 0.5 / np.linalg.norm(cloud, axis=3, keepdims=True)
    cloud[:, :, points // 2 :, 1] = 0.6
    arrays = {"pcd": cloud.astype("<f4"), "center": cloud.mean(axis=2).astype("<f4")}
    if labels == "semantic":
        arrays["semantic"] = np.where(np.arange(points) < points // 2, 17, 5) + np.zeros((sequences, frames, 1), "<i8")
    if labels == "label":
        arrays["label"] = rng.integers(0, 19, (sequences, frames)).astype("<i8")
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            packing: dict[str, Any] = {"chunks": (*chunk, 3)[: array.ndim], "compression": "gzip", "shuffle": True} if chunk else {}
            if chunk and array.shape[2:] == (3,):
                packing["chunks"] = (*chunk[:2], 3)
            file.create_dataset(name, data=array, **packing)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """A PNG file of 16-bit grey or 8-bit RGB pixels."""
    height, width = pixels.shape[:2]
    depth, colour = (16, 0) if pixels.ndim == 2 else (8, 2)
    rows = pixels.astype(">u2" if depth == 16 else np.uint8).reshape(height, -1).view(np.uint8)
    packed = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes(), 6)
    chunks = ((b"IHDR", struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)), (b"IDAT", packed), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def write_log(path: Path, poses: np.ndarray) -> None:
    """A camera trajectory in the Redwood format."""
    lines = [
        line
        for number, pose in enumerate(poses)
        for line in (f"{number} {number} {number + 1}", *(" ".join(f"{value:.8f}" for value in row) for row in pose))
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_recording(depth: Path, annotations: Path, frames: int, padded: bool, masks: str) -> None:
    """A box that moves before a wall, seen by a camera that moves right; `masks` is the folder of masks."""
    poses = np.stack([np.eye(4)] * frames)
    poses[:, 0, 3] = np.arange(frames) * 0.02
    write_log(annotations / "3Dseg" / "output.log", poses)
    for number in range(frames):
        image = np.zeros((1080, 1920), np.uint16)
        image[300:800:2, 500:1400:2] = 1800
        image[450:600, 800 + 20 * number : 950 + 20 * number] = 900
        write_png(depth / "align_depth" / (f"{number:05d}.png" if padded else f"{number}.png"), image)
        mask = np.zeros((1080, 1920, 3), np.uint8)
        mask[450:600, 800 + 20 * number : 900 + 20 * number] = (128, 0, 0)
        mask[450:600, 900 + 20 * number : 950 + 20 * number] = (0, 128, 0)
        write_png(annotations / "2Dseg" / masks / f"{number:05d}.png", mask)
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 10), np.linspace(-0.6, 0.6, 10)), axis=-1).reshape(-1, 2)
    lines = [f"{x:.4f} {y:.4f} 1.8000 {11 if y < 0 else 5} 0" for x, y in grid]
    (annotations / "3Dseg" / "label.txt").write_text("\n".join(lines) + "\n")
    events = [{"event": "Reachout", "startTime": 0, "endTime": 10, "id": 0}, {"event": "Pickup", "startTime": 10, "endTime": 20, "id": 1}]
    (annotations / "action").mkdir()
    (annotations / "action" / "color.json").write_text(json.dumps({"events": events, "info": {"duration": 20}}))


def write_intrinsics(path: Path, matrix: np.ndarray) -> None:
    """A NumPy file, version 1.0."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {matrix.shape}, }}".ljust(117) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + matrix.astype("<f8").tobytes())


def _write_semantic(folder: Path) -> None:
    for seed, (name, sequences) in enumerate((("train1", 4), ("train2", 3), ("train4", 3), ("test1_right", 2))):
        write_h5(folder / f"{name}.h5", sequences, 4, 96, "semantic", seed=seed, chunk=(2, 3, 50) if name == "train4" else ())


def _write_action(folder: Path) -> None:
    for seed, (name, sequences) in enumerate((("train1", 3), ("train2", 2), ("test1", 2))):
        write_h5(folder / f"{name}.h5", sequences, 6, 96, "label", seed=seed)


def _write_raw(folder: Path) -> None:
    """One recording in trees side by side, one in a merged tree."""
    first, second = "ZY20210800001/H1/C2/N01/S16/s01/T1", "ZY20210800003/H3/C5/N02/S20/s02/T2"
    write_recording(folder / "HOI4D_depth_video" / first, folder / "HOI4D_annotations" / first, 3, True, "mask")
    write_recording(folder / second, folder / second, 2, False, "shift_mask")
    (folder / "release.txt").write_text(first + "\r\n")
    (folder / "testset.txt").write_text(second + "\n")
    write_intrinsics(folder / "camera_params/ZY20210800001/intrin.npy", np.array([[1060, 0, 970], [0, 1061, 523], [0, 0, 1]]))


EXAMPLES = (
    Example("hoi4d semantic segmentation", "hoi4d", _write_semantic),
    Example("hoi4d action segmentation", "hoi4d", _write_action, {"form": "action"}, splits=False),
    Example("hoi4d RGB-D recordings", "hoi4d", _write_raw, splits=False),
)
