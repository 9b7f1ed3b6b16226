"""Folders of point clouds in every format, byte by byte: a figure that waves, and the scans of a turning LiDAR."""

import io
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from tests.cross4d_cache.datasets.examples.example import Example

SEQUENCES = (
    ("anna-1", "wave", "anna", "train"),
    ("anna-2", "wave", "anna", "train"),
    ("ben-1", "wave", "ben", "test"),
    ("ben-2", "rest", "ben", "test"),
)
CLASSES = "0 body\n2 arm\n"


def waving_figure(frame: int, num_points: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (float64, metres, x right, y down, z forward, 2.5 m away) and classes: 0 for the body, 2 for the arm."""
    rng = np.random.default_rng(seed)  # the same points in every frame
    directions = rng.standard_normal((num_points, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    is_arm = rng.random(num_points) < 0.25
    swing = 0.5 * np.sin(0.8 * frame + seed)
    arm = directions * [0.35, 0.06, 0.06] + [0.35, 0, 0]
    arm = arm @ np.array([[np.cos(swing), np.sin(swing), 0], [-np.sin(swing), np.cos(swing), 0], [0, 0, 1]]) + [0.2, -0.4, 0]
    points = np.where(is_arm[:, None], arm, directions * [0.25, 0.85, 0.15]) + np.array([0.02 * frame, 0, 2.5])
    return points, np.where(is_arm, 2, 0)


def lidar_scan(frame: int) -> tuple[np.ndarray, np.ndarray]:
    """16 beams by 180 azimuths, x forward, y left, z up, metres: the ground 1.7 m below, a wall, a box that passes."""
    elevation, azimuth = np.meshgrid(np.radians(np.linspace(-15, 5, 16)), np.radians(np.arange(0, 360, 2)), indexing="ij")
    direction = np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1).reshape(-1, 3)
    down = direction[:, 2]
    ground = np.where(down < 0, -1.7 / np.where(down < 0, down, -1), np.inf)
    wall = 20 / np.linalg.norm(direction[:, :2], axis=1)
    box = _distance_to_box(direction, np.array([6.0, -3.0 + frame, -1.7]), np.array([9.0, -1.0 + frame, 0.3]))
    distances = np.stack([ground, wall, box])
    return direction * distances.min(0)[:, None], np.array([0, 1, 10])[distances.argmin(0)]


def _distance_to_box(direction: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    safe = np.where(np.abs(direction) < 1e-9, 1e-9, direction)
    near, far = np.minimum(low / safe, high / safe).max(1), np.maximum(low / safe, high / safe).min(1)
    return np.where((near < far) & (near > 0), near, np.inf)


def ply_text(points: np.ndarray, labels: np.ndarray) -> bytes:
    """Text, with labels."""
    header = (
        f"ply\nformat ascii 1.0\ncomment by hand\nelement vertex {len(points)}\nproperty double x\nproperty double y\nproperty double z\n"
        "property uchar label\nend_header\n"
    )
    return (header + "".join(f"{x:.5f} {y:.5f} {z:.5f} {label}\n" for (x, y, z), label in zip(points, labels, strict=True))).encode()


def ply_mesh(points: np.ndarray, labels: np.ndarray) -> bytes:
    """Big-endian, normals between, and faces behind the vertices."""
    names = "".join(f"property float {name}\n" for name in ("x", "y", "z", "nx", "ny", "nz"))
    header = (
        f"ply\nformat binary_big_endian 1.0\nelement vertex {len(points)}\n{names}element face 2\n"
        "property list uchar int vertex_indices\nend_header\n"
    )
    body = b"".join(struct.pack(">6f", *point, 0, 0, 1) for point in points)
    return header.encode() + body + struct.pack(">BiiiBiii", 3, 0, 1, 2, 3, 2, 3, 4)


def ply_binary(points: np.ndarray, labels: np.ndarray) -> bytes:
    """Little-endian floats and colours; lines of the header end as on Windows."""
    names = "".join(f"property {name}\n" for name in ("float x", "float y", "float z", "uchar red", "uchar green", "uchar blue"))
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{names}end_header\n".replace("\n", "\r\n")
    return header.encode() + b"".join(struct.pack("<3f3B", *point, 200, 100, 50) for point in points)


def _pcd_header(fields: str, sizes: str, types: str, counts: str, num_points: int, data: str) -> bytes:
    return (
        f"# .PCD v.7 - Point Cloud Data file format\nVERSION .7\nFIELDS {fields}\nSIZE {sizes}\nTYPE {types}\nCOUNT {counts}\n"
        f"WIDTH {num_points}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {num_points}\nDATA {data}\n"
    ).encode()


def pcd_text(points: np.ndarray, labels: np.ndarray) -> bytes:
    """Text, with a point that was not measured."""
    lines = [f"{x:.5f} {y:.5f} {z:.5f}\n" for x, y, z in points] + ["nan nan nan\n"]
    return _pcd_header("x y z", "4 4 4", "F F F", "1 1 1", len(lines), "ascii") + "".join(lines).encode()


def pcd_binary(points: np.ndarray, labels: np.ndarray) -> bytes:
    """As PCL writes PointXYZRGB: with padding."""
    body = b"".join(struct.pack("<3f4xI12x", *point, 0xC86432) for point in points)
    return _pcd_header("x y z _ rgb _", "4 4 4 1 4 1", "F F F U F U", "1 1 1 4 1 12", len(points), "binary") + body


def pcd_compressed(points: np.ndarray, labels: np.ndarray) -> bytes:
    """Fields one after the other, packed by LZF; with labels."""
    plain = b"".join(points[:, axis].astype("<f4").tobytes() for axis in range(3)) + labels.astype("<u4").tobytes()
    packed = lzf(plain)
    header = _pcd_header("x y z label", "4 4 4 4", "F F F U", "1 1 1 1", len(points), "binary_compressed")
    return header + struct.pack("<II", len(packed), len(plain)) + packed


def lzf(data: bytes) -> bytes:
    """Packs greedily, by the last place where the same three bytes stood."""
    out, literal, place, seen = bytearray(), bytearray(), 0, dict[bytes, int]()

    def flush() -> None:
        for start in range(0, len(literal), 32):
            run = literal[start : start + 32]
            out.extend([len(run) - 1, *run])
        literal.clear()

    while place < len(data):
        before = seen.get(data[place : place + 3], -1) if place + 3 <= len(data) else -1
        seen[data[place : place + 3]] = place
        if before < 0 or place - before > 8192:
            literal.append(data[place])
            place += 1
            continue
        length = 3
        while length < 264 and place + length < len(data) and data[before + length] == data[place + length]:
            length += 1
        flush()
        distance = place - before - 1
        short = length - 2
        out.extend([short << 5 | distance >> 8] if short < 7 else [7 << 5 | distance >> 8, short - 7])
        out.append(distance & 255)
        place += length
    flush()
    return bytes(out)


def xyz(points: np.ndarray, labels: np.ndarray) -> bytes:
    """Millimetres, z up: x right, y forward."""
    return ("# x y z intensity\n" + "".join(f"{x:.2f} {z:.2f} {-y:.2f} 17\n" for x, y, z in points * 1000)).encode()


def npy_bytes(array: np.ndarray) -> bytes:
    """A `.npy` file as its specification says."""
    header = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + array.tobytes()


def npy(points: np.ndarray, labels: np.ndarray) -> bytes:
    """float64 with a fourth column."""
    return npy_bytes(np.c_[points, labels])


def npz(points: np.ndarray, labels: np.ndarray) -> bytes:
    """Half floats in a unit cube, scale and place, and labels."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        arrays = {
            "points": ((points - [0, 0, 2.5]) / 2).astype("<f2"),
            "loc": np.array([0, 0, 2.5], "<f2"),
            "scale": np.array(2.0),
            "labels": labels.astype("<i8"),
        }
        for name, array in arrays.items():
            target.writestr(zipfile.ZipInfo(f"{name}.npy"), npy_bytes(array), zipfile.ZIP_DEFLATED)
    return archive.getvalue()


def obj(points: np.ndarray, labels: np.ndarray) -> bytes:
    """Vertices, normals, and faces of several spellings."""
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}\n" for x, y, z in points]
    return ("# mesh\no figure\n" + "".join(lines) + "vn 0 0 1\nf 1 2 3\nf 2//1 3//1 4//1 5//1\n").encode()


def nuscenes(points: np.ndarray, labels: np.ndarray) -> bytes:
    """x, y, z, intensity, ring."""
    return b"".join(struct.pack("<5f", *point, 30, index // 180) for index, point in enumerate(points))


def _write_table(root: Path) -> None:
    (root / "labels.csv").write_text("sequence,action,subject,split\n" + "".join(f"{','.join(row)}\n" for row in SEQUENCES))


def write_figures(
    root: Path, suffix: str, content: Callable[[np.ndarray, np.ndarray], bytes], classes: str = "", points: int = 200
) -> None:
    """Four sequences of three to six frames."""
    _write_table(root)
    if classes:
        (root / "classes.txt").write_text(classes)
    for seed, (name, *_) in enumerate(SEQUENCES):
        (root / name).mkdir()
        for frame in range(3 + seed):
            (root / name / f"frame{frame + 8}{suffix}").write_bytes(content(*waving_figure(frame, points, seed)))


def write_kitti(root: Path) -> None:
    """SemanticKITTI's sequences, with labels whose upper halves are instances."""
    _write_table(root)
    (root / "classes.txt").write_text("0 ground\n1 building\n10 car\n")
    for seed, (name, *_) in enumerate(SEQUENCES):
        (root / name / "velodyne").mkdir(parents=True)
        (root / name / "labels").mkdir()
        (root / name / "calib.txt").write_text("P0: 1 0 0\n")
        for frame in range(2):
            points, labels = lidar_scan(frame + seed)
            records = b"".join(struct.pack("<4f", *point, 0.5) for point in points[seed::2])
            (root / name / "velodyne" / f"{frame:06d}.bin").write_bytes(records)
            (root / name / "labels" / f"{frame:06d}.label").write_bytes(
                b"".join(struct.pack("<HH", label, 77) for label in labels[seed::2])
            )


def write_nuscenes(root: Path) -> None:
    """Sweeps of one scene a folder; x right, y forward, z up."""
    _write_table(root)
    for seed, (name, *_) in enumerate(SEQUENCES):
        (root / name).mkdir()
        for frame in range(2):
            path = root / name / f"n015-2018-07-24__LIDAR_TOP__153240292{frame + 9}.pcd.bin"
            points, labels = lidar_scan(frame + seed)
            path.write_bytes(nuscenes((points * [1, -1, 1])[seed::2, [1, 0, 2]], labels[seed::2]))


EXAMPLES = (
    Example("folder-ply-text", "folder", partial(write_figures, suffix=".ply", content=ply_text, classes=CLASSES)),
    Example("folder-ply-binary", "folder", partial(write_figures, suffix=".ply", content=ply_binary), {"tracks": "true"}),
    Example("folder-ply-mesh", "folder", partial(write_figures, suffix=".ply", content=ply_mesh)),
    Example("folder-pcd-text", "folder", partial(write_figures, suffix=".pcd", content=pcd_text)),
    Example("folder-pcd-binary", "folder", partial(write_figures, suffix=".pcd", content=pcd_binary)),
    Example("folder-pcd-compressed", "folder", partial(write_figures, suffix=".pcd", content=pcd_compressed, classes=CLASSES)),
    Example("folder-obj", "folder", partial(write_figures, suffix=".obj", content=obj), {"tracks": "true"}),
    Example("folder-xyz", "folder", partial(write_figures, suffix=".xyz", content=xyz), {"metres_per_unit": "0.001", "axes": "x,-z,y"}),
    Example("folder-npy", "folder", partial(write_figures, suffix=".npy", content=npy)),
    Example("folder-npz", "folder", partial(write_figures, suffix=".npz", content=npz, classes=CLASSES), {"tracks": "true"}),
    Example("folder-kitti", "folder", write_kitti, {"axes": "-y,-z,x"}),
    Example("folder-nuscenes", "folder", write_nuscenes, {"axes": "x,-z,y"}),
)
