"""One file of one frame: which reader takes it, and its labels."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt16

from cross4d_cache.datasets.folder import layout
from cross4d_cache.datasets.folder.arrays import read_npy, read_npz, read_obj, read_records, read_text
from cross4d_cache.datasets.folder.cloud import Cloud
from cross4d_cache.datasets.folder.pcd import read_pcd
from cross4d_cache.datasets.folder.ply import read_ply
from cross4d_cache.datasets.looking import look_at
from cross4d_cache.errors import DatasetError

READERS = {
    ".ply": read_ply,
    ".pcd": read_pcd,
    ".obj": read_obj,
    ".xyz": read_text,
    ".txt": read_text,
    ".npy": read_npy,
    ".npz": read_npz,
}
RECORD_COLUMNS = {".bin": 4, ".pcd.bin": 5}
"""KITTI: x, y, z, intensity; nuScenes: x, y, z, intensity, ring."""

_AGAIN = "fetch or write the file again, or move its sequence out of the folder"


def read_cloud(path: Path, columns: int | None, *, with_labels: bool) -> Cloud:
    """The points of a file, and its labels if they are wanted; `columns` of `.bin` files, None for the usual ones.

    Raises:
        DatasetError: a file is missing or damaged.
    """
    suffix = layout.suffix_of(path.name)
    data = _bytes(path)
    try:
        cloud = read_records(data, columns or RECORD_COLUMNS[suffix]) if suffix in RECORD_COLUMNS else READERS[suffix](data)
    except (ValueError, EOFError, RuntimeError, OverflowError, zlib.error, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path}: {error}", expected=f"an intact {suffix} file", hint=_AGAIN) from None
    if not with_labels:
        return Cloud(cloud.points)
    folder = path.parent.with_name(layout.SCAN_LABELS)
    if path.parent.name == layout.SCANS and folder.is_dir():
        return Cloud(cloud.points, _scan_labels(path, folder / f"{path.name.removesuffix(suffix)}.label", len(cloud.points)))
    return cloud


def as_classes(path: Path, labels: Shaped[np.ndarray, " point"], num_classes: int) -> UInt16[np.ndarray, " point"]:
    """Labels as they are in a store.

    Raises:
        DatasetError: one is not the number of a class.
    """
    wrong = ~((labels >= 0) & (labels < num_classes))
    if labels.dtype.kind == "f":
        wrong |= labels != np.floor(labels)
    if wrong.any():
        place = int(wrong.argmax())
        raise DatasetError(
            f"{path}: label {labels[place]} of point {place}",
            expected=f"a class that {layout.CLASSES_FILE} names, 0 to {num_classes - 1}",
            hint=f"add it to {layout.CLASSES_FILE}, or fetch the file again",
        )
    return labels.astype(np.uint16)


def measured(path: Path, points: Float32[np.ndarray, "point 3"], farthest: float) -> Bool[np.ndarray, " point"]:
    """Which points are finite.

    Raises:
        DatasetError: none, or one has a coordinate beyond `farthest`.
    """
    finite: Bool[np.ndarray, " point"] = np.isfinite(points).all(axis=1)
    if not finite.any():
        raise DatasetError(f"{path}: none of its {len(points)} points is finite", expected="at least one point in every frame", hint=_AGAIN)
    largest = float(np.abs(points[finite]).max())
    if largest > farthest:
        raise DatasetError(
            f"{path}: a coordinate of {largest:g}",
            expected=f"at most {farthest:g}, 100 km, from where on float32 loses millimetres",
            hint="of map coordinates, pass `dataset.options` origin=auto; of millimetres or feet, set metres_per_unit; or it is damaged",
        )
    return finite


def _scan_labels(scan: Path, path: Path, num_points: int) -> Shaped[np.ndarray, " point"]:
    """KITTI's: little-endian uint32, of which the lower half is the class and the upper one the instance."""
    data = _bytes(path)
    if len(data) != 4 * num_points:
        raise DatasetError(
            f"{path}: ends at byte {len(data)}", expected=f"{4 * num_points} bytes for the {num_points} points of {scan.name}", hint=_AGAIN
        )
    halves: UInt16[np.ndarray, "point half"] = np.frombuffer(data, "<u2").reshape(num_points, 2)
    return halves[:, 0]


def _bytes(path: Path) -> bytes:
    layout.check_file(path)
    return look_at(path, path.read_bytes, _AGAIN)
