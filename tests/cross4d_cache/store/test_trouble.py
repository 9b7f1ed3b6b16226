"""Disks that are full or read only, clocks that are wrong, two at once: an error that says so, and nothing lost."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.errors import CacheCorruptError, CacheError, CacheIncompleteError, OutputError
from cross4d_cache.sharing.merge import Merge
from cross4d_cache.sharing.pack import Pack
from cross4d_cache.sharing.pull import Pull
from cross4d_cache.sharing.subset import Selection, Subset
from cross4d_cache.store import CacheWriter, open_cache, verify
from tests.cross4d_cache.store.store_examples import PROJECTION, make_manifest, make_part, write_store
from tests.cross4d_cache.store.test_hostile import read_all


def mount(folder: Path, *options: str) -> bool:
    folder.mkdir(exist_ok=True)
    return subprocess.run(["mount", *options, str(folder)], check=False, capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    if os.geteuid() != 0 or not mount(disk, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        pytest.skip("a small disk needs root, and a kernel that mounts tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture(scope="module")
def contents() -> list:  # type: ignore[type-arg]
    """Some 200 KB each."""
    return [make_part([[2000] * 8], seed=number, first_id=number) for number in range(6)]


@pytest.fixture
def store(contents: list, tmp_path: Path) -> Path:  # type: ignore[type-arg]
    return write_store(tmp_path / "store.zarr", contents)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    filler.write_bytes(bytes(600_000))
    return filler


def test_a_full_disk_under_a_writer(small_disk: Path, contents: list, store: Path) -> None:  # type: ignore[type-arg]
    filler, manifest = fill(small_disk), make_manifest(contents[:3])

    def write() -> None:
        writer = CacheWriter(small_disk / "store", manifest, PROJECTION)
        for number in writer.missing():
            writer.commit(number, contents[number])
        writer.finish()

    with pytest.raises(OutputError, match="cannot write"):
        write()
    with pytest.raises(CacheError):
        open_cache(small_disk / "store")
    assert open_cache(small_disk / "store", allow_partial=True).manifest.parts  # what was finished stays
    filler.unlink()
    write()
    assert [problem for check in verify(open_cache(small_disk / "store")) for problem in check.problems] == []


@pytest.mark.parametrize("job", ["merge", "subset", "pull", "pack"])
def test_a_full_disk_under_the_others(small_disk: Path, store: Path, job: str) -> None:
    filler, cache = fill(small_disk), open_cache(store)
    half = Selection(cache, ids=[f"sequence {number}" for number in range(3)])
    out = small_disk / "out"

    def work() -> None:
        if job == "merge":
            list(Merge(out, [open_cache(small_source)]).run())
        elif job == "subset":
            list(Subset(out, cache, half).run())
        elif job == "pull":
            list(Pull(small_source, out).run())
        else:
            list(Pack(open_cache(small_source), small_disk / "out.zip").run())

    small_source = store.parent / "small.zarr"
    list(Subset(small_source, cache, half).run())
    with pytest.raises(OutputError):
        work()
    assert not (small_disk / "out.zip").exists()
    filler.unlink()
    work()
    assert read_all(small_disk / "out.zip" if job == "pack" else out) == read_all(small_source)


@pytest.mark.parametrize("job", ["write", "merge", "pull", "pack"])
def test_a_disk_that_cannot_be_written(tmp_path: Path, store: Path, job: str) -> None:
    disk = tmp_path / "disk"
    if os.geteuid() != 0 or not mount(disk, "-t", "tmpfs", "-o", "size=1m,ro", "tmpfs"):
        pytest.skip("a disk that is read only needs root, and a kernel that mounts tmpfs")
    try:
        cache = open_cache(store)
        work = {
            "write": lambda: CacheWriter(disk / "out", make_manifest([]), PROJECTION),
            "merge": lambda: Merge(disk / "out", [cache]),
            "pull": lambda: list(Pull(store, disk / "out").run()),
            "pack": lambda: list(Pack(cache, disk / "out.zip").run()),
        }[job]
        with pytest.raises(OutputError, match="cannot write"):
            work()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_store_on_a_disk_that_cannot_be_written_is_read(tmp_path: Path, store: Path) -> None:
    for path in (store, *store.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert len(read_all(store)) > 10
    assert [problem for check in verify(open_cache(store)) for problem in check.problems] == []
    for path in (store, *store.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_clock_that_was_set_back(tmp_path: Path, contents: list, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[type-arg]
    """Files from the future, and a clock that runs backwards while a store is written and copied."""
    now = iter(range(2_000_000_000, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: next(now))
    store = write_store(tmp_path / "store.zarr", contents[:2])
    for path in store.rglob("*"):
        os.utime(path, (5e9, 5e9))
    list(Pull(store, tmp_path / "copy.zarr").run())
    list(Pull(store, tmp_path / "copy.zarr").run())
    assert read_all(tmp_path / "copy.zarr") == read_all(store)
    list(Pack(open_cache(store), tmp_path / "store.zip").run())
    list(Pack(open_cache(tmp_path / "copy.zarr"), tmp_path / "copy.zip").run())
    assert (tmp_path / "store.zip").read_bytes() == (tmp_path / "copy.zip").read_bytes()


def test_a_part_that_is_deleted_under_a_reader(store: Path) -> None:
    cache = open_cache(store)
    cache.read_clip(0, np.arange(2))
    shutil.rmtree(store / "parts/00000")
    with pytest.raises(CacheCorruptError, match="00000"):
        cache.read_clip(0, np.arange(2))
    cache.read_clip(1, np.arange(2))


def test_a_part_that_is_replaced_under_a_reader(store: Path, tmp_path: Path) -> None:
    """The new part is as valid as the old one; numbers of both must not mix."""
    other = write_store(tmp_path / "other.zarr", [make_part([[2000] * 8], seed=77, first_id=0)])
    cache = open_cache(store)
    cache.read_clip(0, np.arange(2))
    shutil.rmtree(store / "parts/00000")
    shutil.copytree(other / "parts/00000", store / "parts/00000")
    with pytest.raises(CacheCorruptError, match="00000"):
        cache.read_clip(0, np.arange(2))


def test_two_merges_at_once(store: Path, tmp_path: Path) -> None:
    cache = open_cache(store)
    first, second = Merge(tmp_path / "out", [cache]).run(), Merge(tmp_path / "out", [cache]).run()
    for _ in range(20):
        next(first, None)
        next(second, None)
    assert read_all(tmp_path / "out") == read_all(store)


def test_a_store_that_is_being_merged_says_so(store: Path, tmp_path: Path) -> None:
    running = Merge(tmp_path / "out", [open_cache(store)]).run()
    next(running)
    with pytest.raises(CacheIncompleteError, match="1 of 6 parts"):
        open_cache(tmp_path / "out")
    list(running)
