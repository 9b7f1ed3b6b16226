"""A build can be killed at any instant and run again: the store ends up the same, byte for byte.

Builds run in children forked from a driver (this file as a program) that has done the slow imports and nothing else. A child counts
what it does to the files of its store and kills itself, as `kill -9` would, at a given count.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cross4d_cache.errors import CacheFormatError, CacheIncompleteError
from cross4d_cache.store import open_cache, verify

WATCHED = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.listdir"}


def drive() -> None:
    """The driver: one JSON request a line on stdin, one JSON list of exit codes and file events a line on stdout."""
    import torch

    import cross4d_cache.build
    import cross4d_cache.datasets
    import cross4d_cache.teachers  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        children = [_fork(request) for _ in range(request["workers"])]
        answers = []
        for pid, pipe in children:
            with os.fdopen(pipe) as reader:
                events = reader.read()
            answers.append([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), int(events or 0)])
        print(json.dumps(answers), flush=True)


def _fork(request: dict[str, Any]) -> tuple[int, int]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    os.close(reader)
    code = 1
    try:
        events = _count_events(request["out"], request["kill_at"])
        {"build": _build, "write": _write}[request["job"]](request)
        os.write(writer, str(events[0]).encode())
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _count_events(store: str, kill_at: int | None) -> list[int]:
    count = [0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in WATCHED and store in str(arguments[0]):
            count[0] += 1
            if count[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count


def _build(request: dict[str, Any]) -> None:
    from cross4d_cache.build import Build
    from cross4d_cache.datasets import open_dataset
    from cross4d_cache.plan import BuildSettings, plan_build
    from cross4d_cache.teachers import load_teacher

    dataset, teacher = open_dataset("msr_action3d", Path(request["data"])), load_teacher("hf", request["weights"])
    settings = BuildSettings(points_per_frame=50, projection="random:16", batch_frames=8, frames_per_part=9)
    for _ in Build(dataset, teacher, plan_build(dataset, teacher, settings), Path(request["out"])).run():
        pass


def _write(request: dict[str, Any]) -> None:
    from cross4d_cache.store import CacheWriter
    from tests.cross4d_cache.store.store_examples import PROJECTION, make_manifest, two_parts

    writer = CacheWriter(Path(request["out"]), make_manifest(two_parts()), PROJECTION)
    for number in writer.missing():
        writer.commit(number, two_parts()[number])
    writer.finish()


class Driver:
    """The driver process, seen from the tests."""

    def __init__(self, weights: Path, data: Path) -> None:
        self._request = {"weights": str(weights), "data": str(data)}
        command = [sys.executable, "-m", "tests.cross4d_cache.test_interruption"]
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, job: str, out: Path, *, kill_at: int | None = None, workers: int = 1) -> list[list[int]]:
        """Exit code and number of file events of every worker."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {**self._request, "job": job, "out": str(out), "kill_at": kill_at, "workers": workers}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return [list(answer) for answer in json.loads(self._process.stdout.readline())]

    def finish(self, job: str, out: Path) -> int:
        """Run to the end; the number of file events."""
        [[code, events]] = self.run(job, out)
        assert code == 0
        return events

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def driver(tiny_vit: Path, msr_folder: Path) -> Iterator[Driver]:
    driver = Driver(tiny_vit, msr_folder)
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


if __name__ == "__main__":
    drive()
