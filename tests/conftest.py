"""Fixtures shared by both stages: a tiny image teacher, a tiny dataset on disk, and a finished store built from the two."""

from tests.shapes import check_packages

check_packages("cross4d_cache", "cross4d_train")  # before anything imports them

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTModel

import cross4d_cache
import cross4d_train
from cross4d_cache.build import prefetch
from cross4d_cache.build.engines.local import Build
from cross4d_cache.build.plan import plan_build
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.datasets import open_dataset
from cross4d_cache.datasets.mesh import import_open3d
from cross4d_cache.errors import SettingsError
from cross4d_cache.teachers import load_teacher
from cross4d_train import resources

MSR_LENGTHS = {
    "a01_s01_e01": 5,
    "a01_s02_e01": 8,
    "a01_s03_e01": 3,
    "a02_s04_e01": 9,
    "a02_s05_e01": 6,
    "a02_s06_e01": 4,
}
"""Frames of every sequence of `msr_folder`."""


LONG_FILES = ("soak", "pipelines", "test_parts.py", "test_extras.py", "test_training_alone.py", "test_record.py")
"""Whose tests take long one by one: they go first, so that the processes that share the files end at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.relative_to(Path(__file__).parent).parts[0] not in LONG_FILES)


@pytest.fixture(autouse=True, scope="session")
def two_cores() -> Iterator[None]:
    """However many cores there are, only tests that ask for processes start some."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (prefetch, resources):
            patch.setattr(module, "usable_cores", lambda: 2)
        yield


def _write_msr(path: Path, depth: np.ndarray, *, player_rows: bool = False) -> None:
    frames, height, width = depth.shape
    with path.open("wb") as file:
        file.write(struct.pack("<3I", frames, width, height))
        for row in depth.reshape(-1, width):
            file.write(struct.pack(f"<{width}I", *row.tolist()))
            if player_rows:
                file.write(bytes(1 if value else 0 for value in row.tolist()))


@pytest.fixture(scope="session")
def write_msr() -> Callable[..., None]:
    """Writes depth units (frame row column) as an MSR-Action3D file; `player_rows` chooses the variant with player indices."""
    return _write_msr


@pytest.fixture(scope="session")
def tiny_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT folder of 32 px, patches of 8 px and 32 channels, for `--teacher hf --weights FOLDER`."""
    folder = tmp_path_factory.mktemp("weights") / "tiny_vit"
    config = ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 32, "width": 32}}))
    return folder


@pytest.fixture(scope="session")
def msr_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six sequences of subjects 1 to 6: a lumpy blob 3 m away that goes sideways (action 1) or downwards (action 2)."""
    folder = tmp_path_factory.mktemp("msr")
    rows, columns = np.mgrid[:24, :32]
    for name, num_frames in MSR_LENGTHS.items():
        sideways, subject = name.startswith("a01"), int(name[5:7])
        depth = np.zeros((num_frames, 24, 32), np.uint32)
        for t in range(num_frames):
            row, column = (12, 10 + t) if sideways else (8 + t, 16)
            square = ((rows - row) / 7) ** 2 + ((columns - column) / 5) ** 2
            surface = 600 + 2 * subject + 20 * square + 3 * np.sin(rows + 2 * columns)
            depth[t] = np.where(square < 1, surface, 0).astype(np.uint32)
        _write_msr(folder / f"{name}_sdepth.bin", depth, player_rows=subject % 2 == 0)
    return folder


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory, tiny_vit: Path, msr_folder: Path) -> Path:
    """A finished store of `msr_folder` with `tiny_vit`: 2 views, 16 projected channels, 3 parts. Read only: copy it to damage it."""
    store = tmp_path_factory.mktemp("small") / "store.zarr"
    dataset, teacher = open_dataset("msr_action3d", msr_folder), load_teacher("hf", str(tiny_vit))
    settings = BuildSettings(points_per_frame=100, views=2, projection="random:16", batch_frames=8, frames_per_part=9)
    plan = plan_build(dataset, teacher, settings)
    for _ in Build(dataset, teacher, plan, store).run():
        pass
    return store


@pytest.fixture(scope="session")
def open3d() -> ModuleType:
    """Open3D, the extra `mesh`; tests that need it are skipped where it cannot be installed."""
    try:
        return import_open3d()
    except SettingsError as error:
        pytest.skip(f"{error.found}; {error.hint}")


def pytest_configure() -> None:
    """Where the installed packages are to be tested, make sure that it is them."""
    installed = os.environ.get("CROSS4D_INSTALLED")
    for package in (cross4d_cache, cross4d_train):
        if installed and not Path(str(package.__file__)).is_relative_to(installed):
            raise pytest.UsageError(f"{package.__name__} comes from {package.__file__}, not from {installed}")
