"""Reading a store where it is served: what a clip needs and no more, kept on this machine, checked by hash."""

import gzip
import shutil
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.errors import (
    CacheCorruptError,
    CacheError,
    CacheFormatError,
    CacheIncompleteError,
    CacheUnreachableError,
    SettingsError,
)
from cross4d_cache.sharing.pack import Pack
from cross4d_cache.store import Cache, CacheManifest, open_cache, verify
from cross4d_cache.store.storage import waiting, web
from cross4d_cache.store.storage.blobs import FOLDER, GIGABYTES
from pipelines.benchmarks.nginx import find_nginx, serve
from tests.cross4d_cache.store.forgery import forge_part
from tests.cross4d_cache.store.store_examples import make_part, write_store
from tests.cross4d_cache.store.test_hostile import read_all
from tests.servers.cutter import Cutter
from tests.servers.liar import LIES, Handler, Server, honest

FRAMES = np.arange(2)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(waiting, "FIRST_WAIT", 0.001)
    monkeypatch.setenv(waiting.WAIT_MINUTES, "0")
    monkeypatch.setenv(FOLDER, str(tmp_path / "blobs"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parts with many chunks each, and the same as a zip beside it."""
    contents = [
        make_part([[3000] * 12, [2000] * 30], seed=1, most_rows=300, tubelet=1),
        make_part([[2500] * 20], seed=2, first_id=2, most_rows=300, tubelet=1),
    ]
    path = write_store(tmp_path_factory.mktemp("served") / "store.zarr", contents)
    list(Pack(open_cache(path), path.with_suffix(".zip")).run())
    return path


@pytest.fixture
def server(store: Path) -> Iterator[Server]:
    server = Server(store.parent)
    yield server
    server.close()


@pytest.fixture(params=["store.zarr", "store.zip"])
def url(server: Server, request: pytest.FixtureRequest) -> str:
    return f"{server.url}/{request.param}"


def same_clip(ours: Cache, theirs: Cache, index: int, frames: np.ndarray) -> None:
    mine, other = (vars(cache.read_clip(index, frames, labels=True)) for cache in (ours, theirs))
    for name, value in mine.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, other[name])


def test_everything_is_as_on_this_machine(url: str, store: Path) -> None:
    assert read_all(url) == read_all(store)  # type: ignore[arg-type]
    assert [problem for check in verify(open_cache(url)) for problem in check.problems] == []


def test_a_clip_loads_only_what_it_needs(server: Server, url: str, store: Path) -> None:
    cache = open_cache(url)
    same_clip(cache, open_cache(store), 1, np.arange(10, 14))
    total = sum(part.bytes for part in cache.manifest.parts)
    assert server.given < 0.25 * total
    assert not any("parts/00001/points" in path for path, _ in server.requests)


def test_what_was_loaded_is_kept_for_the_next_process(server: Server, url: str) -> None:
    open_cache(url).read_clip(1, FRAMES)
    loaded = server.given
    server.requests.clear()
    open_cache(url).read_clip(1, FRAMES)
    assert server.given < 0.3 * loaded  # the manifest, and the directory of a zip
    assert not any("parts" in path for path, _ in server.requests)


def test_what_is_kept_is_bounded(url: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GIGABYTES, "0.002")
    cache, here = open_cache(url), open_cache(store)
    for index in (0, 1, 2, 0, 1, 2):
        for start in range(0, cache.sequences[index].num_frames - 2, 5):
            same_clip(cache, here, index, np.arange(start, start + 2))
            kept = sum(path.stat().st_size for path in (tmp_path / "blobs").rglob("*") if path.is_file())
            assert kept <= 2_000_000


@pytest.mark.parametrize("of", ["", "points/c", "features/c", "files.json", "chunks.json", "index.json", "zarr.json"])
@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_never_gives_wrong_numbers(server: Server, store: Path, lie: str, of: str) -> None:
    truth = vars(open_cache(store).read_clip(1, FRAMES))
    server.answer, server.of = LIES[lie], of
    try:
        clip = vars(open_cache(f"{server.url}/store.zarr").read_clip(1, FRAMES))
    except CacheError as error:
        clip, said = truth, str(error)
    else:
        said = ""
    assert len(said) < 1000
    for name, value in clip.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, truth[name])


@pytest.mark.parametrize("lie", LIES)
def test_a_zip_on_a_server_that_lies(server: Server, store: Path, lie: str) -> None:
    truth = open_cache(store).read_clip(1, FRAMES)
    server.answer = LIES[lie]
    try:
        clip = open_cache(f"{server.url}/store.zip").read_clip(1, FRAMES)
    except CacheError:
        return
    np.testing.assert_array_equal(clip.points, truth.points)


def test_a_piece_swapped_for_a_valid_one_is_found_out(server: Server, store: Path, tmp_path: Path) -> None:
    """On this machine only `verify` notices that; of what comes over a network every piece has its hash."""
    other = write_store(
        tmp_path / "other" / "store.zarr",
        [make_part([[3000] * 12, [2000] * 30], seed=9, most_rows=300, tubelet=1), make_part([[2500] * 20], seed=2, first_id=2)],
    )
    mixed = Path(shutil.copytree(store, tmp_path / "mixed.zarr"))
    shutil.copy(other / "parts/00000/points/c/0/0", mixed / "parts/00000/points/c/0/0")
    server.root = tmp_path
    with pytest.raises(CacheCorruptError, match="points"):
        open_cache(f"{server.url}/mixed.zarr").read_clip(1, FRAMES)


def test_a_store_without_hashes_of_chunks_is_loaded_by_whole_files(server: Server, store: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(store, tmp_path / "old.zarr"))
    (old / "index.json").unlink()
    for number in (0, 1):
        (old / f"parts/0000{number}/chunks.json").unlink()
        forge_part(old, number)
    server.root = tmp_path
    same_clip(open_cache(f"{server.url}/old.zarr"), open_cache(store), 1, FRAMES)
    path = old / "parts/00000/features/c/0/0"
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    shutil.rmtree(tmp_path / "blobs")
    with pytest.raises(CacheCorruptError, match="features"):
        open_cache(f"{server.url}/old.zarr").read_clip(1, FRAMES)


def test_a_network_that_cuts_every_connection(server: Server, store: Path) -> None:
    cutter = Cutter(server.url, most=200_000, seed=1)
    same_clip(open_cache(f"{cutter.url}/store.zarr"), open_cache(store), 0, np.arange(12))
    cutter.close()
    assert cutter.cuts > 3


@pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed (Debian: nginx-light)")
@pytest.mark.parametrize("name", ["store.zarr", "store.zip"])
def test_a_real_nginx(store: Path, tmp_path: Path, name: str) -> None:
    with serve(store.parent, tmp_path, "limit_rate 2m;") as url:
        cache = open_cache(f"{url}/{name}")
        same_clip(cache, open_cache(store), 1, np.arange(3))
        given = sum(int(line.split()[9]) for line in (tmp_path / "access.log").read_text().splitlines())
    assert given < 0.25 * sum(part.bytes for part in cache.manifest.parts)


def test_a_bucket(store: Path, tmp_path: Path, put_into_bucket) -> None:  # type: ignore[no-untyped-def]
    for path in store.rglob("*"):
        if path.is_file():
            put_into_bucket(f"{tmp_path.name}/store.zarr/{path.relative_to(store).as_posix()}", path.read_bytes())
    put_into_bucket(f"{tmp_path.name}/store.zip", store.with_suffix(".zip").read_bytes())
    for name in ("store.zarr", "store.zip"):
        same_clip(open_cache(f"s3://stores/{tmp_path.name}/{name}"), open_cache(store), 2, np.arange(3))


@pytest.mark.parametrize("place", ["none.zarr", "none.zip", ""])
def test_nothing_there(server: Server, place: str) -> None:
    """Whatever else may be wrong with an address, the store is not damaged."""
    address = f"{server.url}/{place}"
    with pytest.raises(CacheFormatError, match=rf"there is no store at {address.rstrip('/')}: the server answers 404 Not Found") as caught:
        open_cache(address.replace("://", "://alice:secret@"))
    assert "secret" not in str(caught.value)


def test_nothing_that_may_be_seen(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(handler: Handler, status: int, body: bytes, **_: object) -> None:
        handler.send_response(403)
        handler.end_headers()

    monkeypatch.setattr(Handler, "give", forbid)
    with pytest.raises(CacheFormatError, match=r"(?s)answers 403 Forbidden.*netrc"):
        open_cache(f"{server.url}/store.zarr")


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(CacheUnreachableError, match="cannot be had"):
        open_cache("http://127.0.0.1:9/store.zarr")
    with pytest.raises(CacheUnreachableError, match="cannot be had"):
        open_cache("http://no-such-host.invalid/store.zarr")


def test_an_unfinished_store(server: Server, store: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(store, tmp_path / "copy.zarr"))
    CacheManifest.read(copy).model_copy(update={"complete": False, "parts": ()}).write(copy)
    server.root = tmp_path
    with pytest.raises(CacheIncompleteError):
        open_cache(f"{server.url}/copy.zarr")


def test_names_and_passwords(server: Server, store: Path) -> None:
    asked = []

    def answer(handler, data, start, stop) -> None:  # type: ignore[no-untyped-def]
        asked.append(b64decode(handler.headers["Authorization"].removeprefix("Basic ")).decode())
        honest(handler, data, start, stop)

    server.answer = answer
    with pytest.raises(CacheFormatError) as caught:
        open_cache(server.url.replace("//", "//ich:p%40ss%C3%A4@") + "/nothing.zarr")
    assert "p%40ss" not in str(caught.value)
    open_cache(server.url.replace("//", "//ich:p%40ss%C3%A4@") + "/store.zarr")
    assert set(asked) == {"ich:p@ssä"}


@pytest.mark.parametrize("name", ["zarr.json", "points/c"])
def test_a_server_that_trickles_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(web, "MINUTE", 0.2)

    def answer(handler, data, start, stop) -> None:  # type: ignore[no-untyped-def]
        part = data[start:stop]
        handler.send_response(206 if stop else 200)
        handler.send_header("Content-Length", str(len(part)))
        handler.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")
        handler.end_headers()
        for byte in part:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.02)

    server.answer, server.of = answer, name
    monkeypatch.setattr(waiting, "ATTEMPTS", 1)
    with pytest.raises(CacheUnreachableError, match="bytes a second"):
        open_cache(f"{server.url}/store.zarr").read_clip(0, FRAMES)


def test_packed_answers_are_not_unpacked(server: Server, store: Path) -> None:
    """A server may say gzip, whatever it was asked for; a bomb in it would be another."""

    def answer(handler, data, start, stop) -> None:  # type: ignore[no-untyped-def]
        handler.give(200, gzip.compress(bytes(2**22)), Content_Encoding="gzip")

    server.answer, server.of = answer, "zarr.json"
    with pytest.raises(CacheFormatError):
        open_cache(f"{server.url}/store.zarr")


@pytest.mark.parametrize("url", ["http://[::1", "http://[x]/store.zarr", "ftp://host/x", "https:///x"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(SettingsError, match="an address"):
        open_cache(url)
