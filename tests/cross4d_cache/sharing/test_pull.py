"""Copies over a network that fails: resumed, checked, visible when whole."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.errors import (
    CacheCorruptError,
    CacheError,
    CacheFormatError,
    CacheIncompleteError,
    CacheMismatchError,
    CacheUnreachableError,
    OutputError,
)
from cross4d_cache.sharing.pull import STAGING, Pull
from cross4d_cache.store import CacheManifest, open_cache
from cross4d_cache.store.storage import waiting
from pipelines.benchmarks.nginx import find_nginx, serve
from tests.cross4d_cache.store.store_examples import make_part, two_parts, write_store
from tests.cross4d_cache.store.test_hostile import read_all
from tests.servers.cutter import Cutter
from tests.servers.liar import LIES, Server, honest, without_ranges

needs_nginx = pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed (Debian: nginx-light)")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST_WAIT", 0.001)
    monkeypatch.setenv(waiting.WAIT_MINUTES, "0")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    contents = [make_part([[900, 800], [1000]], seed=1, most_rows=60), *two_parts()]
    for number, part in enumerate(contents[1:]):
        ids = tuple(f"other {number} {info.id}" for info in part.sequences)
        renamed = tuple(info.model_copy(update={"id": id}) for info, id in zip(part.sequences, ids, strict=True))
        contents[1 + number] = replace(part, sequences=renamed)
    return write_store(tmp_path_factory.mktemp("served") / "store.zarr", contents)


@pytest.fixture
def server(store: Path) -> Iterator[Server]:
    server = Server(store.parent)
    yield server
    server.close()


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pull(place: Path | str, out: Path) -> list[int]:
    return list(Pull(place, out).run())


def test_a_copy_is_the_store_and_again_loads_nothing(server: Server, store: Path, tmp_path: Path) -> None:
    steps = pull(f"{server.url}/store.zarr", tmp_path / "out")
    assert files(tmp_path / "out") == files(store)
    assert steps[-1] == sum(part.bytes for part in CacheManifest.read(store).parts)
    server.requests.clear()
    pull(f"{server.url}/store.zarr", tmp_path / "out")
    assert not any("points" in path for path, _ in server.requests)
    assert files(tmp_path / "out") == files(store)


def test_from_a_folder(store: Path, tmp_path: Path) -> None:
    pull(store, tmp_path / "out")
    assert files(tmp_path / "out") == files(store)


def test_what_is_damaged_or_missing_is_copied_again_and_nothing_else(server: Server, store: Path, tmp_path: Path) -> None:
    pull(store, tmp_path / "out")
    path = tmp_path / "out/parts/00001/features/c/0/0"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    shutil.rmtree(tmp_path / "out/projection")
    pull(f"{server.url}/store.zarr", tmp_path / "out")
    assert files(tmp_path / "out") == files(store)
    assert not any("parts/00000/points" in path or "parts/00002/points" in path for path, _ in server.requests)


def test_a_server_without_ranges_will_do(server: Server, store: Path, tmp_path: Path) -> None:
    server.answer = without_ranges
    pull(f"{server.url}/store.zarr", tmp_path / "out")
    assert files(tmp_path / "out") == files(store)


def interrupt_at(server: Server, count: int) -> None:
    """From the `count`-th request on the server hangs up half way."""
    seen = iter(range(10**9))

    def answer(handler, data, start, stop) -> None:  # type: ignore[no-untyped-def]
        if next(seen) >= count:
            handler.close_connection = True
            raise ConnectionResetError
        honest(handler, data, start, stop)

    server.answer = answer


def test_interrupted_again_and_again_it_ends_right_and_loads_little_twice(server: Server, store: Path, tmp_path: Path) -> None:
    attempts = 0
    while True:
        interrupt_at(server, 30)
        try:
            pull(f"{server.url}/store.zarr", tmp_path / "out")
            break
        except CacheUnreachableError:
            attempts += 1
            assert attempts < 60
            if (tmp_path / "out/zarr.json").exists():
                with pytest.raises(CacheIncompleteError):
                    open_cache(tmp_path / "out")
    assert attempts > 2
    assert files(tmp_path / "out") == files(store)
    large = sum(len(data) for name, data in files(store).items() if "/c/" in name)
    assert sum(count for path, count in server.requests if "/c/" in path) < 1.5 * large


def test_a_network_that_cuts_every_connection(server: Server, store: Path, tmp_path: Path) -> None:
    cutter = Cutter(server.url, most=6000, seed=3)
    pull(f"{cutter.url}/store.zarr", tmp_path / "out")
    cutter.close()
    assert cutter.cuts > 20
    assert files(tmp_path / "out") == files(store)


@pytest.mark.parametrize("of", ["", "points/c", "files.json", "zarr.json", "projection", "index.json"])
@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_is_found_out(server: Server, store: Path, tmp_path: Path, lie: str, of: str) -> None:
    server.answer, server.of = LIES[lie], of
    try:
        pull(f"{server.url}/store.zarr", tmp_path / "out")
    except CacheError as error:
        said = str(error)
        with pytest.raises(CacheError):
            open_cache(tmp_path / "out")
        server.answer = honest
        pull(f"{server.url}/store.zarr", tmp_path / "out")
    else:
        said = ""
    assert len(said) < 1000
    assert files(tmp_path / "out") == files(store)


def test_what_lies_in_the_staging_folder_is_not_believed(store: Path, tmp_path: Path) -> None:
    staged = tmp_path / "out" / STAGING / "00000" / "points" / "c" / "0" / "0"
    staged.parent.mkdir(parents=True)
    true = (store / "parts/00000/points/c/0/0").read_bytes()
    for wrong in (b"x" * 10, true + b"more", true[:100] + b"x" * (len(true) - 100)):
        staged.parent.mkdir(parents=True, exist_ok=True)
        staged.write_bytes(wrong)
        pull(store, tmp_path / "out")
        assert files(tmp_path / "out") == files(store)
        shutil.rmtree(tmp_path / "out")


def test_two_at_once(server: Server, store: Path, tmp_path: Path) -> None:
    first = Pull(f"{server.url}/store.zarr", tmp_path / "out").run()
    next(first)
    with pytest.raises(OutputError, match="another process"):
        pull(f"{server.url}/store.zarr", tmp_path / "out")
    list(first)
    assert files(tmp_path / "out") == files(store)


def test_another_store_is_not_overwritten(store: Path, tmp_path: Path) -> None:
    other = write_store(tmp_path / "other", two_parts())
    before = files(other)
    with pytest.raises(CacheMismatchError, match="another store"):
        pull(store, other)
    assert {name: data for name, data in files(other).items() if not name.startswith(".pull")} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes").write_text("mine")
    with pytest.raises(OutputError, match="not a store"):
        pull(store, tmp_path / "mine")


def test_an_unfinished_store_is_refused(store: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(store, tmp_path / "copy"))
    CacheManifest.read(copy).model_copy(update={"complete": False, "parts": ()}).write(copy)
    with pytest.raises(CacheIncompleteError):
        pull(copy, tmp_path / "out")


def test_a_rebuilt_store_replaces_only_what_differs(store: Path, tmp_path: Path) -> None:
    """The same build made elsewhere may round differently; a copy of one goes over to the other."""
    copy = Path(shutil.copytree(store, tmp_path / "rebuilt"))
    from cross4d_cache.store import CacheWriter
    from tests.cross4d_cache.store.store_examples import PROJECTION

    writer = CacheWriter(copy, CacheManifest.read(copy), PROJECTION)
    part = make_part([[8, 6, 1, 1, 3]], seed=99, first_id=2)
    renamed = tuple(info.model_copy(update={"id": f"other 1 {info.id}"}) for info in part.sequences)
    writer.renew("00002")
    writer.commit(2, replace(part, sequences=renamed))
    writer.finish()
    pull(store, tmp_path / "out")
    shared = tmp_path / "out/parts/00001/points/c/0/0"
    shared.write_bytes(shared.read_bytes()[:-1] + b"x")
    pull(copy, tmp_path / "out")
    assert files(tmp_path / "out") == files(copy) != files(store)


def test_a_damaged_part_of_an_unfinished_copy_is_not_kept(store: Path, tmp_path: Path) -> None:
    pull(store, tmp_path / "out")
    CacheManifest.read(store).model_copy(update={"complete": False, "parts": ()}).write(tmp_path / "out")
    path = tmp_path / "out/parts/00001/points/c/0/0"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    pull(store, tmp_path / "out")
    assert files(tmp_path / "out") == files(store)


def test_from_a_folder_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CacheFormatError, match="not a Cross4D store"):
        pull(tmp_path / "empty", tmp_path / "out")


def test_too_little_space_is_told_before_anything_is_loaded(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 100))  # type: ignore[attr-defined]
    with pytest.raises(OutputError, match="are free"):
        pull(f"{server.url}/store.zarr", tmp_path / "out")
    assert not any("/c/" in path for path, _ in server.requests)


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(CacheUnreachableError, match="cannot be had"):
        pull("http://127.0.0.1:9/store.zarr", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@needs_nginx
def test_a_real_nginx_with_throttling(store: Path, tmp_path: Path) -> None:
    with serve(store.parent, tmp_path, "limit_rate 200k;") as url:
        pull(f"{url}/store.zarr", tmp_path / "out")
    assert files(tmp_path / "out") == files(store)


@needs_nginx
def test_a_real_nginx_whose_connections_are_cut(store: Path, tmp_path: Path) -> None:
    with serve(store.parent, tmp_path) as url:
        cutter = Cutter(url, most=8000, seed=5)
        pull(f"{cutter.url}/store.zarr", tmp_path / "out")
        cutter.close()
    assert cutter.cuts > 10
    assert files(tmp_path / "out") == files(store)


@needs_nginx
def test_an_nginx_that_is_restarted(store: Path, tmp_path: Path) -> None:
    with serve(store.parent, tmp_path, "limit_rate 20k;") as url:
        running = Pull(f"{url}/store.zarr", tmp_path / "out").run()
        next(running)
        next(running)
    with pytest.raises(CacheUnreachableError):
        list(running)
    with serve(store.parent, tmp_path) as url:
        pull(f"{url}/store.zarr", tmp_path / "out")
    assert files(tmp_path / "out") == files(store)


def test_from_a_bucket(store: Path, tmp_path: Path, put_into_bucket) -> None:  # type: ignore[no-untyped-def]
    for name, data in files(store).items():
        put_into_bucket(f"{tmp_path.name}/store.zarr/{name}", data)
    pull(f"s3://stores/{tmp_path.name}/store.zarr", tmp_path / "out")
    assert files(tmp_path / "out") == files(store)


def test_killed_in_the_middle_it_goes_on(store: Path, tmp_path: Path) -> None:
    server = Server(store.parent)

    def slow(handler, data, start, stop) -> None:  # type: ignore[no-untyped-def]
        time.sleep(0.05)
        honest(handler, data, start, stop)

    server.answer = slow
    command = [sys.executable, "-m", "tests.cross4d_cache.sharing.pull_command", f"{server.url}/store.zarr", str(tmp_path / "out")]
    for _ in range(3):
        process = subprocess.Popen(command)
        deadline = time.monotonic() + 20
        seen = len(server.requests)
        while len(server.requests) < seen + 15 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (tmp_path / "out/zarr.json").exists() and not CacheManifest.read(tmp_path / "out").complete:
            with pytest.raises(CacheIncompleteError):
                open_cache(tmp_path / "out")
    assert subprocess.run(command, check=False).returncode == 0
    server.close()
    assert files(tmp_path / "out") == files(store)


def test_readers_of_a_copy_that_is_mended(store: Path, tmp_path: Path) -> None:
    pull(store, tmp_path / "out")
    cache = open_cache(tmp_path / "out")
    cache.read_clip(0, np.arange(2))
    path = tmp_path / "out/parts/00000/points/c/0/0"
    path.write_bytes(bytes(path.stat().st_size))
    os.utime(path, ns=(1, 1))
    with pytest.raises(CacheCorruptError):
        cache.read_clip(0, np.arange(2))
    pull(store, tmp_path / "out")
    assert read_all(tmp_path / "out") == read_all(store)
