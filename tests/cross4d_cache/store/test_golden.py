"""A store that version 0.1 wrote, before stores had an index and hashes of chunks: every later version reads it."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.sharing.pull import Pull
from cross4d_cache.store import open_cache, verify
from cross4d_cache.store.part import LAYOUT

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module", params=["zip", "folder", "pulled"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("golden") / "store"
    if request.param == "zip":
        return Path(shutil.copy(GOLDEN / "store_v1.zip", place.with_suffix(".zip")))
    if request.param == "folder":
        zipfile.ZipFile(GOLDEN / "store_v1.zip").extractall(place)
    else:
        list(Pull(GOLDEN / "store_v1.zip", place).run())
    return place


def test_every_array_is_what_was_written(store: Path) -> None:
    cache, expected = open_cache(store), json.loads((GOLDEN / "store_v1.json").read_text())
    for number, arrays in enumerate(expected.values()):
        part = cache.part(number)
        assert set(arrays) == set(LAYOUT)
        for name, (dtype, shape, digest) in arrays.items():
            values = part.rows(name, 0, shape[0])
            assert [str(values.dtype), list(values.shape)] == [dtype, shape]
            assert hashlib.sha256(values.tobytes()).hexdigest() == digest, name


def test_it_is_whole_and_its_clips_are_read(store: Path) -> None:
    cache = open_cache(store)
    assert [problem for check in verify(cache) for problem in check.problems] == []
    assert [info.id for info in cache.sequences] == ["sequence 0", "sequence 1", "sequence 2"]
    clip = cache.read_clip(1, np.arange(3), labels=True)
    assert clip.points.shape == (15, 3)
    assert cache.projection() is not None
