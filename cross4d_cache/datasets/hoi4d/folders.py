"""Where the files of RGB-D recordings lie.

A recording is `ZY2021080000{1..4}/H*/C*/N*/S*/s*/T*` (rig, person, object category, object, room, layout, task). The downloads unpack into
one tree each (HOI4D_release, HOI4D_depth_video, HOI4D_annotations), side by side; trees merged into one folder work as well.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cross4d_cache.datasets.looking import look_at
from cross4d_cache.errors import DatasetError

TREES = ("", "HOI4D_depth_video", "HOI4D_annotations", "HOI4D_release")
"""The root itself, and the trees in which its files may lie."""
LISTS = {"train": "release.txt", "test": "testset.txt"}
"""The official lists of recordings, beside or above the trees."""
_RECORDING = re.compile(r"ZY2021080000([1-4])/H(\d{1,3})/C(\d{1,3})/N\d+/S\d+/s\d+/T\d+")
_NUMBERED = re.compile(r"(\d{1,5})\.png")


@dataclass(frozen=True)
class Place:
    """One recording: its id, and what its path says."""

    id: str
    rig: int
    person: int
    category: int

    @classmethod
    def parse(cls, path: str) -> "Place | None":
        """From a path with slashes."""
        match = _RECORDING.fullmatch(path)
        return cls(path.replace("/", "-"), *(int(group) for group in match.groups())) if match else None

    def find(self, root: Path, *names: str) -> Path | None:
        """The first of some files or folders of this recording that exists in any tree."""
        inside = self.id.replace("-", "/")
        return next((path for name in names for tree in TREES if (path := root / tree / inside / name).exists()), None)


def find_recordings(root: Path) -> list[Place]:
    """All recordings with a folder `align_depth`, in the order of their paths."""
    found = set()
    for tree in TREES:
        for folder in (root / tree).glob("ZY*/H*/C*/N*/S*/s*/T*/align_depth"):
            found.add(Place.parse(folder.parent.relative_to(root / tree).as_posix()))
    return sorted((place for place in found if place), key=lambda place: place.id)


def numbered_images(folder: Path) -> dict[int, str]:
    """The names of a folder's images 0, 1, 2 and so on, padded (`00012.png`) or not (`12.png`).

    Raises:
        DatasetError: there are none, one is missing, or two have the same number.
    """
    hint = "extract again, into an empty folder"
    names: dict[int, str] = {}
    files = sorted(look_at(folder, lambda: os.listdir(folder), hint))
    for name in files:
        if (match := _NUMBERED.fullmatch(name)) and (other := names.setdefault(int(match[1]), name)) != name:
            raise DatasetError(f"{folder}: both {other} and {name}", expected="one image a frame", hint=hint)
    missing = next((number for number in range(len(names)) if number not in names), None)
    if missing is not None:
        found = f"{folder}: no image {missing} among {len(names)}"
        raise DatasetError(found, expected="images numbered from 0 without a gap (ffmpeg: -start_number 0)", hint=hint)
    return names


def read_lists(root: Path) -> dict[str, str]:
    """The side, `train` or `test`, of each recording in the official lists, as far as these exist.

    The 31 recordings of both lists were released, so they are `train`.

    Raises:
        DatasetError: a line is not the path of a recording.
    """
    sides: dict[str, str] = {}
    for side, name in LISTS.items():
        path = next((folder / name for folder in (root, root.parent) if (folder / name).is_file()), None)
        if path is None:
            continue
        for number, line in enumerate(_text(path).splitlines(), start=1):
            if line.strip():
                sides.setdefault(_listed(path, number, line.strip()), side)
    return sides


def _text(path: Path) -> str:
    hint = "fetch the list again, or move it away"
    try:
        return look_at(path, lambda: path.read_text(encoding="ascii"), hint)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} cannot be read: {error}", hint=hint) from None


def _listed(path: Path, number: int, line: str) -> str:
    if Place.parse(line) is None:
        raise DatasetError(
            f"{path}: line {number} reads {line[:60]!r}",
            expected="ZY20210800001/H1/C1/N1/S1/s1/T1",
            hint="fetch the list again, or move it away",
        )
    return line.replace("/", "-")
