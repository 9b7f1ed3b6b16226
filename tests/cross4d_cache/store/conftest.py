"""A small store that tests may damage."""

import shutil
from pathlib import Path

import pytest

from tests.cross4d_cache.store.store_examples import two_parts, write_store


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("pristine") / "store.zarr", two_parts())


@pytest.fixture
def store(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "store.zarr"))
