"""A build can be killed at any instant and run again: the store ends up the same, byte for byte.

Here a build is killed at chosen events in its files; `tests/soak` kills everything else as well, at random instants.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.errors import CacheFormatError, CacheIncompleteError
from cross4d_cache.store import open_cache, verify
from tests.soak.driver import Driver


@pytest.fixture(scope="module")
def driver(tiny_vit: Path, msr_folder: Path) -> Iterator[Driver]:
    driver = Driver(weights=str(tiny_vit), data=str(msr_folder))
    yield driver
    driver.close()


def files(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, bytes], int]]:
    """For each job, the files of a store that nobody interrupted, and the number of file events it took."""
    folder = tmp_path_factory.mktemp("whole")
    events = {job: driver.finish(job, folder / job) for job in ("build", "write")}
    return {job: (files(folder / job), count) for job, count in events.items()}


def assert_unfinished_or_intact(store: Path) -> None:
    """What a reader may find after a kill: no store, an unfinished one that says so, or a whole one."""
    try:
        cache = open_cache(store)
    except (CacheFormatError, CacheIncompleteError):
        return
    assert [problem for check in verify(cache) for problem in check.problems] == []


Whole = dict[str, tuple[dict[str, bytes], int]]


def test_an_uninterrupted_build_is_reproducible(driver: Driver, whole: Whole, tmp_path: Path) -> None:
    driver.finish("build", tmp_path / "store")
    assert files(tmp_path / "store") == whole["build"][0]
    assert sum(name.endswith("files.json") for name in whole["build"][0]) == 3


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_build_goes_on_to_the_same_bytes(driver: Driver, whole: Whole, tmp_path: Path, seed: int) -> None:
    expected, events = whole["build"]
    store, kill_at = tmp_path / "store", int(np.random.default_rng(seed).integers(1, events))
    assert driver.run("build", store, kill_at=kill_at) == [[-signal.SIGKILL, 0]]
    assert_unfinished_or_intact(store)
    driver.finish("build", store)
    assert files(store) == expected


def test_a_build_that_is_killed_again_and_again_gets_there(driver: Driver, whole: Whole, tmp_path: Path) -> None:
    expected, events = whole["build"]
    for kill_at in np.random.default_rng(9).integers(events // 4, events // 2, 3).tolist():
        [[code, _]] = driver.run("build", tmp_path / "store", kill_at=kill_at)
        assert code in (0, -signal.SIGKILL)
    driver.finish("build", tmp_path / "store")
    assert files(tmp_path / "store") == expected


def test_a_writer_killed_all_along_its_way_goes_on_to_the_same_bytes(driver: Driver, whole: Whole, tmp_path: Path) -> None:
    expected, events = whole["write"]
    first, last = range(1, 8), range(events - 2, events)  # the first and last instants of the manifest
    for kill_at in sorted({*first, *range(8, events, 61), *last}):
        store = tmp_path / str(kill_at)
        assert driver.run("write", store, kill_at=kill_at) == [[-signal.SIGKILL, 0]]
        assert_unfinished_or_intact(store)
        driver.finish("write", store)
        assert files(store) == expected, kill_at


def test_two_builders_of_one_store_give_the_same_bytes(driver: Driver, whole: Whole, tmp_path: Path) -> None:
    assert [code for code, _ in driver.run("build", tmp_path / "store", workers=2)] == [0, 0]
    assert files(tmp_path / "store") == whole["build"][0]


def test_many_writers_of_one_store_give_the_same_bytes(driver: Driver, whole: Whole, tmp_path: Path) -> None:
    for attempt in range(4):
        store = tmp_path / str(attempt)
        assert [code for code, _ in driver.run("write", store, workers=3)] == [0, 0, 0]
        assert files(store) == whole["write"][0]
