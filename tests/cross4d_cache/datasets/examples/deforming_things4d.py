"""DeformingThings4D in its two forms: a box that is pulled and bent, as a mesh and as depth images of one camera."""

import struct
import zlib
from pathlib import Path

import numpy as np

from tests.cross4d_cache.datasets.examples.example import Example

NAMES = {"bear3EP_Agression": 5, "bear84Q_Idle_long2": 3, "duck_Walk": 4, "unknownX1_Run": 2}
CORNERS = np.array([[x, y, z] for x in (0, 0.5) for y in (0, 0.25) for z in (0, 1.0)], "<f4")
TRIANGLES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]],
    "<i4",
)


def moved(frame: int) -> np.ndarray:
    """The corners in a frame: stretched along z and shifted along x."""
    return CORNERS * np.array([1, 1, 1 + 0.1 * frame], "<f4") + np.array([0.2 * frame, 0, 0], "<f4")


def anime(num_frames: int) -> bytes:
    """The bytes of an `.anime` file."""
    offsets = [(moved(frame) - CORNERS).astype("<f4").tobytes() for frame in range(1, num_frames)]
    return struct.pack("<3i", num_frames, len(CORNERS), len(TRIANGLES)) + CORNERS.tobytes() + TRIANGLES.tobytes() + b"".join(offsets)


def write_anime(root: Path) -> None:
    for name, num_frames in NAMES.items():
        folder = root / "animals" / name
        folder.mkdir(parents=True)
        (folder / f"{name}.anime").write_bytes(anime(num_frames))
        (folder / "screenshots").mkdir()
    folder = root / "humanoids" / "vampire_Breakdance1990"
    folder.mkdir(parents=True)
    (folder / f"{folder.name}.anime").write_bytes(anime(3))


def png16(image: np.ndarray) -> bytes:
    """A 16-bit grey PNG file, each row unfiltered."""
    height, width = image.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write_rendered(root: Path) -> None:
    for name in ("bear3EP_Agression", "bear84Q_Idle2"):
        folder = root / name
        (folder / "depth").mkdir(parents=True)
        (folder / "cam_intr.txt").write_text("60.0 0.0 20.0\n0.0 60.0 15.0\n0.0 0.0 1.0\n")
        # The camera stands at (0, -3, 1) and looks along y, with z up.
        (folder / "cam_extr.txt").write_text("1 0 0 0\n0 0 1 -3\n0 -1 0 1\n0 0 0 1\n")
        for number in (18, 19, 21):
            image = np.zeros((30, 40), np.uint16)
            image[5:25, number - 10 : number] = 3000 + 10 * np.arange(10)
            (folder / "depth" / f"{number:04d}.png").write_bytes(png16(image))


EXAMPLES = (
    Example("deforming_things4d anime", "deforming_things4d", write_anime, {"points": "500"}),
    Example("deforming_things4d rendered", "deforming_things4d", write_rendered),
)
