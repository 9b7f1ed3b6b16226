"""The folders of depth images: names, numbers, and what is missing among them."""

import os
import re
from pathlib import Path

from cross4d_cache.datasets.looking import look_at
from cross4d_cache.errors import DatasetError

PREFIXES = {"masked": "MDepth", "raw": "Depth"}


def entries(folder: Path) -> list[tuple[str, bool]]:
    """The names in a folder, sorted, and whether each is a folder itself.

    Raises:
        DatasetError: it cannot be read.
    """

    def look() -> list[tuple[str, bool]]:
        with os.scandir(folder) as found:
            return sorted((entry.name, entry.is_dir()) for entry in found)

    return look_at(folder, look, "fetch the sample again, or move it out")


def image_path(folder: Path, form: str, frame: int) -> Path:
    """The depth image of a frame; files count from 1."""
    return folder / f"{PREFIXES[form]}-{frame + 1:08}.png"


def has_images(folder: Path, form: str) -> bool:
    """Whether any depth image of this form lies in a folder."""
    return any(name.startswith(f"{PREFIXES[form]}-") for name, _ in entries(folder))


def count_images(folder: Path, form: str) -> int:
    """Frames of a sample.

    Raises:
        DatasetError: there is none, or one is missing among them.
    """
    pattern = re.compile(rf"{PREFIXES[form]}-([0-9]{{8}})\.png")
    numbers = {int(match[1]) for name, _ in entries(folder) if (match := pattern.fullmatch(name))}
    missing = next((frame for frame in range(len(numbers)) if frame + 1 not in numbers), None)
    if missing is not None or not numbers:
        raise DatasetError(
            f"{image_path(folder, form, missing or 0)} is missing"
            + (f", although there are later images, up to number {max(numbers)}" if numbers else ": the folder has no image of this form"),
            expected=f"images numbered from 1 on without a gap, named like {image_path(folder, form, 0).name}",
            hint="fetch the sample again, or move it out of the folder",
        )
    return len(numbers)
