"""NTU RGB+D: a lumpy body 3 m away that walks sideways, in the three forms of its files, with skeletons for some samples."""

import struct
import zlib
from pathlib import Path

import numpy as np

from tests.cross4d_cache.datasets.examples.example import Example
from tests.cross4d_cache.datasets.examples.msr_action3d import object_array, write_npz

SAMPLES = {"S001C001P001R001A001": 4, "S002C002P003R002A060": 3, "S017C003P020R001A007": 3, "S018C003P044R002A061": 4}
SAMPLES_OF_60 = {"S001C001P001R001A001": 2, "S002C002P003R002A060": 2}
FX, FY, CX, CY = 365.9, 366.4, 261.0, 207.5
"""The camera that the skeletons tell of; unlike any of the reader's table."""


def depth_of(name: str, num_frames: int, *, room: bool = False) -> np.ndarray:
    """Millimetres (frame row column); `room` puts a wall behind the body."""
    rows, columns = np.mgrid[:424, :512]
    frames = np.zeros((num_frames, 424, 512), np.uint16)
    wall = 4000 + rows // 16 if room else np.zeros_like(rows)
    for t in range(num_frames):
        square = ((rows - 212) / 70) ** 2 + ((columns - 230 - 9 * t) / 22) ** 2
        surface = 3000 + 4 * int(name[9:12]) + 120 * square + 8 * np.sin(rows / 3 + columns / 2)
        frames[t] = np.where(square < 1, surface, wall)
    return frames


def png16(image: np.ndarray) -> bytes:
    """A PNG file of 16-bit grey pixels."""
    height, width = image.shape
    rows = b"".join(b"\0" + struct.pack(f">{width}H", *row) for row in image.tolist())
    chunks = ((b"IHDR", struct.pack(">2I5B", width, height, 16, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def write_images(folder: Path, depth: np.ndarray, prefix: str) -> None:
    """A sample's folder of depth images."""
    folder.mkdir(parents=True)
    for number, image in enumerate(depth, start=1):
        (folder / f"{prefix}-{number:08}.png").write_bytes(png16(image))


def skeleton_text(num_frames: int, seed: int = 0) -> str:
    """A `.skeleton` file of one body, seen by the camera of this module."""
    rng = np.random.default_rng(seed)
    lines = [str(num_frames)]
    for _ in range(num_frames):
        lines += ["1", "72057594037931648 0 1 1 1 1 0 -0.1159187 0.1413209 2", "25"]
        for x, y, z in rng.uniform((-1.2, -0.9, 2.5), (1.2, 0.9, 4.0), (25, 3)):
            column, row = CX + FX * x / z, CY - FY * y / z
            lines.append(f"{x:.7g} {y:.7g} {z:.7g} {column:.7g} {row:.7g} {3 * column:.7g} {3 * row:.7g} -0.17 0.04 0.97 -0.16 2")
    return "\r\n".join(lines) + "\r\n"


def published_points(depth: np.ndarray) -> list[np.ndarray]:
    """The points of each frame as PSTNet's scripts make them, from pictures read as float32 in [0, 1]."""
    frames = []
    for image in depth:
        row, column = image.nonzero()
        z = (image[row, column] / np.float32(65535)).astype(np.float32)
        frames.append(np.stack([(column - 256) / 280 * z, (row - 212) / 280 * z, z], axis=1))
    return frames


def _write_masked(folder: Path) -> None:
    (folder / "nturgb+d_skeletons").mkdir()
    for name, num_frames in SAMPLES.items():
        write_images(folder / "nturgb+d_depth_masked" / name, depth_of(name, num_frames), "MDepth")
    for name in list(SAMPLES)[::2]:
        (folder / "nturgb+d_skeletons" / f"{name}.skeleton").write_text(skeleton_text(5))


def _write_raw(folder: Path) -> None:
    for name, num_frames in SAMPLES_OF_60.items():
        write_images(folder / name, depth_of(name, num_frames, room=True), "Depth")


def _write_npz(folder: Path) -> None:
    for name, num_frames in SAMPLES.items():
        depth = depth_of(name, num_frames)
        depth[:, :, ::3] = 0  # float64 points take ten times the space of pixels
        depth[:, ::2] = 0
        write_npz(folder / f"{name}.npz", "data", object_array(published_points(depth)))


EXAMPLES: tuple[Example, ...] = (
    Example("ntu_rgbd_masked", "ntu_rgbd", _write_masked),
    Example("ntu_rgbd_raw", "ntu_rgbd", _write_raw, splits=False),
    Example("ntu_rgbd_npz", "ntu_rgbd", _write_npz),
)
