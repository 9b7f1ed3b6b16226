"""MSR-Action3D: a lumpy blob 2.5 m away that goes sideways (action 1) or downwards (action 2), in the three forms of its files."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np

from tests.cross4d_cache.datasets.examples.example import Example

LENGTHS = {"a01_s01_e01": 5, "a01_s04_e02": 4, "a01_s06_e01": 3, "a02_s02_e01": 4, "a02_s05_e01": 6, "a02_s10_e03": 4}


def depth_of(name: str, num_frames: int) -> np.ndarray:
    """Depth units (frame row column) of a sequence."""
    rows, columns = np.mgrid[:40, :48]
    frames = np.zeros((num_frames, 40, 48), np.uint32)
    for t in range(num_frames):
        row, column = (20, 16 + 2 * t) if name.startswith("a01") else (14 + 2 * t, 24)
        square = ((rows - row) / 12) ** 2 + ((columns - column) / 8) ** 2
        surface = 500 + 2 * int(name[5:7]) + 20 * square + 3 * np.sin(rows + 2 * columns)
        frames[t] = np.where(square < 1, surface, 0)
    return frames


def write_bin(path: Path, depth: np.ndarray, *, players: bool = False) -> None:
    """The official file; `players` chooses the variant with a player index for each pixel behind each row."""
    num_frames, height, width = depth.shape
    body = bytearray(struct.pack("<3I", num_frames, width, height))
    for row in depth.reshape(-1, width).tolist():
        body += struct.pack(f"<{width}I", *row)
        if players:
            body += bytes(1 if value else 0 for value in row)
    path.write_bytes(bytes(body))


def published_points(depth: np.ndarray) -> list[np.ndarray]:
    """The points of each frame as MeteorNet's scripts make them."""
    frames = []
    for image in depth:
        row, column = image.nonzero()
        z = image[row, column].astype(np.float64)
        frames.append(np.stack([(column - 160) / 280 * z, (row - 120) / 280 * z, z], axis=1))
    return frames


def object_array(frames: list[np.ndarray]) -> np.ndarray:
    """One array of arrays; `np.array` would make one dense array where all have the same length."""
    array = np.empty(len(frames), object)
    for number, frame in enumerate(frames):
        array[number] = frame
    return array


def _write_bin(folder: Path) -> None:
    for name, num_frames in LENGTHS.items():
        write_bin(folder / f"{name}_sdepth.bin", depth_of(name, num_frames), players=False)


def _write_players(folder: Path) -> None:
    for name, num_frames in LENGTHS.items():
        write_bin(folder / f"{name}_sdepth.bin", depth_of(name, num_frames), players=True)


def write_npz(path: Path, name: str, array: np.ndarray) -> None:
    """As `np.savez_compressed` does, but without the time of day, which that writes into the archive."""
    content = io.BytesIO()
    np.save(content, array)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_DEFLATED)


def _write_npz(folder: Path) -> None:
    for name, num_frames in LENGTHS.items():
        points = object_array(published_points(depth_of(name, num_frames)))
        write_npz(folder / f"{name}_sdepth.npz", "point_clouds", points)


EXAMPLES: tuple[Example, ...] = (
    Example("msr_action3d_bin", "msr_action3d", _write_bin),
    Example("msr_action3d_players", "msr_action3d", _write_players),
    Example("msr_action3d_npz", "msr_action3d", _write_npz),
)
