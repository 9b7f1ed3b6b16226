"""Dataset readers, by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.datasets.deforming_things4d.dataset import DeformingThings4D
from cross4d_cache.datasets.files import FileDataset
from cross4d_cache.datasets.folder.dataset import Folder
from cross4d_cache.datasets.hoi4d.dataset import HOI4D
from cross4d_cache.datasets.msr_action3d import MSRAction3D
from cross4d_cache.datasets.ntu_rgbd.dataset import NTURGBD
from cross4d_cache.datasets.synthetic.dataset import Synthetic
from cross4d_cache.errors import DatasetError
from cross4d_cache.options import parse_options
from cross4d_cache.registry import Components

DATASETS = Components[Dataset](
    "dataset",
    Dataset,
    {cls.name: cls for cls in (Synthetic, MSRAction3D, DeformingThings4D, NTURGBD, HOI4D, Folder)},
    key="name",
)


def open_dataset(name: str, root: Path | None = None, options: Mapping[str, Any] | None = None) -> Dataset:
    """Open a dataset by name.

    Raises:
        SettingsError: unknown dataset or option.
        DatasetError: the folder is missing.
    """
    cls = DATASETS.find(name)
    parsed = parse_options(cls.Options, options or {}, of=f"dataset {name}")
    if cls.needs_root:
        if root is None:
            raise DatasetError(f"dataset {name} lives in a folder, and none was given", hint="pass `dataset.root` FOLDER")
        if problem := _problem_with(root):
            held = cls.holds if issubclass(cls, FileDataset) else f"files of {name}"
            raise DatasetError(f"{root} {problem}", expected=f"a folder that holds {held}", hint="pass `dataset.root` FOLDER")
    return cls(root, parsed)


def _problem_with(folder: Path) -> str | None:
    try:
        if folder.is_dir():
            return None
        return "is a file" if folder.exists() else "does not exist"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
