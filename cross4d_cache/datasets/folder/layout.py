"""Where the sequences and frames of a folder are: every folder in it is a sequence, every file in that a frame, in natural order.

A folder without folders is one sequence itself. A sequence may keep its frames in a folder `velodyne`, beside `labels`, as KITTI's do.
What begins with a dot does not count. Times and poses often lie beside frames in files of the same kind: where files have numbers, one
without is no frame.
"""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from cross4d_cache.datasets.folder.cloud import LARGEST_BYTES
from cross4d_cache.datasets.looking import look_at
from cross4d_cache.errors import DatasetError

SUFFIXES = (".pcd.bin", ".ply", ".pcd", ".obj", ".xyz", ".txt", ".npy", ".npz", ".bin")
"""Of frames; a longer one stands before those it ends with."""

CLASSES_FILE = "classes.txt"
SCANS, SCAN_LABELS = "velodyne", "labels"
SIDE_FILES = re.compile(
    "calib(ration)?|extrinsics|intrinsics|info|meta(data)?|notes|poses?|readme|times?(tamps?)?|trajectory", re.IGNORECASE
)
"""What text files beside frames are called."""


@dataclass(frozen=True)
class SequenceFiles:
    """The frames of a sequence in order, and files of the suffixes of frames that are taken for something else."""

    frames: list[Path]
    left_out: list[Path]


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts `frame2` before `frame10`: numbers by value, before all else, which goes by characters."""
    parts = re.findall("[0-9]+|[^0-9]+", name)
    return [(1, int(part), "") if part[0] in "0123456789" else (2, 0, part) for part in parts] + [(0, 0, name)]


def suffix_of(name: str) -> str:
    """Which of the suffixes a file has, in any case, or none."""
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")


def sequence_folders(root: Path) -> dict[str, Path]:
    """The sequences by id, in order.

    Raises:
        DatasetError: the folder cannot be listed.
    """
    entries = _entries(root)
    folders = [name for name, is_folder in entries if is_folder]
    if not folders or SCANS in folders:
        return {root.resolve().name: root}
    frames = [name for name, is_folder in entries if not is_folder and suffix_of(name) not in ("", ".txt")]
    if frames:
        raise DatasetError(
            f"{root} holds frames ({frames[0]}, ...) beside folders ({folders[0]}, ...)",
            expected="folders, each a sequence; or frames of one sequence and no folder",
            hint="move the ones or the others away",
        )
    return {name: root / name for name in folders}


def frame_files(folder: Path) -> list[Path]:
    """The frames of a sequence in order.

    Raises:
        DatasetError: there is no frame, or there are several kinds.
    """
    return sequence_files(folder).frames


def sequence_files(folder: Path) -> SequenceFiles:
    """The files of a sequence; text files are frames where there is no other kind.

    Raises:
        DatasetError: there is no frame, or there are several kinds.
    """
    if (SCANS, True) in _entries(folder):
        folder = folder / SCANS
    kinds: dict[str, list[Path]] = {}
    for name, is_folder in _entries(folder):
        if not is_folder and name != CLASSES_FILE and (suffix := suffix_of(name)):
            kinds.setdefault(suffix, []).append(folder / name)
    left_out = kinds.pop(".txt", []) if len(kinds) > 1 else []
    if len(kinds) > 1:
        examples = ", ".join(paths[0].name for paths in kinds.values())
        raise DatasetError(f"{folder} holds frames of several kinds: {examples}", expected="one kind", hint="move the others out of it")
    found = [path for paths in kinds.values() for path in paths]
    numbered = any(map(_has_number, found))
    frames = [path for path in found if not _is_side_file(path) and _has_number(path) >= numbered]
    if not frames:
        raise _without_frames(folder)
    kept = set(frames)
    return SequenceFiles(frames, [path for path in (*left_out, *found) if path not in kept])


def scan_labels(folder: Path) -> list[Path]:
    """The files with labels of a sequence whose frames lie in `velodyne`, sorted; none where there is no folder of them."""
    labels = folder / SCAN_LABELS
    if not (folder / SCANS).is_dir() or not labels.is_dir():
        return []
    return [labels / name for name, is_folder in _entries(labels) if not is_folder and name.endswith(".label")]


def _has_number(path: Path) -> bool:
    return any(letter in "0123456789" for letter in stem(path))


def _is_side_file(path: Path) -> bool:
    return path.name.lower().endswith(".txt") and SIDE_FILES.fullmatch(stem(path)) is not None


def stem(path: Path) -> str:
    """Its name without the suffix."""
    return path.name[: -len(suffix_of(path.name))]


def _without_frames(folder: Path) -> DatasetError:
    inner = [name for name, is_folder in _entries(folder) if is_folder]
    outer = [name for name, is_folder in _entries(folder.parent) if is_folder]
    if not inner:
        hint = "fill it, or move it out of the folder"
    elif len(outer) == 1:
        hint = f"if its folders are the sequences, pass `dataset.root` {folder}"
    else:
        hint = (
            f"if its folders are the sequences, put those of {outer[0]}, {outer[1]}, ... into one folder, under names such as "
            f"{folder.name}_{inner[0]}, and say in labels.csv what {folder.name} stands for; if not, move it out of the folder"
        )
    return DatasetError(f"{folder} holds no frames", expected=f"files {', '.join(SUFFIXES)}", hint=hint)


def check_file(path: Path) -> None:
    """Whether a frame's file may be opened.

    Raises:
        DatasetError: it is missing, empty, not a file, or too large.
    """
    status = look_at(path, path.stat, "fetch it again, or move it out of the folder")
    if not stat.S_ISREG(status.st_mode) or not 0 < status.st_size <= LARGEST_BYTES:
        raise DatasetError(
            f"{path}: {status.st_size} bytes" if stat.S_ISREG(status.st_mode) else f"{path} is not a file",
            expected=f"a file of 1 to {LARGEST_BYTES} bytes",
            hint="fetch it again, or move it out of the folder",
        )


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """Names in natural order, each with whether it is a folder."""

    def look() -> list[tuple[str, bool]]:
        with os.scandir(folder) as entries:
            return [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]

    found = look_at(folder, look, "move it out of the folder")
    for name, _ in found:
        if not name.isprintable():
            raise DatasetError(
                f"{folder} holds the name {name!r}", expected="printable names", hint="rename it; names of sequences are stored"
            )
    return sorted(found, key=lambda item: natural(item[0]))
