"""What every place that a store may lie in has to do: one suite for folders, zips, web servers and buckets."""

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cross4d_cache.errors import CacheCorruptError, CacheFormatError, SettingsError
from cross4d_cache.store.digest import sha256_bytes
from cross4d_cache.store.shard import Span
from cross4d_cache.store.storage import Source, Storage, StoredFile, open_storage
from cross4d_cache.store.storage.archive import ArchiveSource
from cross4d_cache.store.storage.blobs import Blobs
from cross4d_cache.store.storage.folder import FolderSource
from tests.servers.liar import Server, without_ranges

FILES = {"a": b"", "b c/d#e?.bin": bytes(range(256)) * 9, "b c/f": b"small", "ä/ß": b"unicode"}


def write_files(root: Path) -> Path:
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def write_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Server]:
    root = tmp_path / "web"
    (root / "store").mkdir(parents=True)
    write_files(root / "store")
    write_zip(root / "store.zip")
    server = Server(root)
    yield server
    server.close()


@pytest.fixture(params=["folder", "zip", "web", "web without ranges", "zip on the web", "bucket", "zip in a bucket"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    kind = request.param
    if kind == "folder":
        return open_storage(write_files(tmp_path / "folder")).source
    if kind == "zip":
        return open_storage(write_zip(tmp_path / "store.zip")).source
    if "bucket" in kind:
        put = request.getfixturevalue("put_into_bucket")
        place = f"s3://stores/{tmp_path.name}/x"
        for name, data in FILES.items():
            put(f"{tmp_path.name}/x/{name}", data)
        put(f"{tmp_path.name}/x.zip", write_zip(tmp_path / "x.zip").read_bytes())
        return open_storage(f"{place}.zip" if "zip" in kind else place).source
    server: Server = request.getfixturevalue("web")
    if "without" in kind:
        server.answer = lambda handler, data, start, stop: without_ranges(handler, data, start, stop)
        if "zip" not in kind:
            server.of = "store/"
    return open_storage(f"{server.url}/store.zip" if "zip" in kind else f"{server.url}/store/?key=secret").source


def test_whole_files_and_ranges(source: Source) -> None:
    for name, data in FILES.items():
        assert source.size(name) == len(data)
        assert source.whole(name, 10_000) == data
        assert source.read(name, 0, len(data)) == data
    data = FILES["b c/d#e?.bin"]
    for start, size in ((0, 1), (5, 0), (17, 400), (len(data) - 1, 1), (0, len(data))):
        assert source.read("b c/d#e?.bin", start, size) == data[start : start + size]


def test_what_is_not_there(source: Source) -> None:
    for call in (source.size, lambda name: source.read(name, 0, 4), lambda name: source.whole(name, 10)):
        with pytest.raises(FileNotFoundError):
            call("b c/none")


def test_no_more_and_no_less_than_there_is(source: Source) -> None:
    data = FILES["b c/d#e?.bin"]
    for start, size in ((0, len(data) + 1), (len(data), 1), (len(data) - 3, 10)):
        with pytest.raises(ValueError, match=r"."):
            source.read("b c/d#e?.bin", start, size)
    with pytest.raises(ValueError, match="more"):
        source.whole("b c/d#e?.bin", len(data) - 1)


def test_names(source: Source) -> None:
    assert source.names() in (None, sorted(FILES))
    assert "secret" not in source.path("x")


def test_files_are_checked(source: Source, tmp_path: Path) -> None:
    storage = Storage(source, Blobs(tmp_path / "blobs", 10**9))
    name, data = "b c/d#e?.bin", FILES["b c/d#e?.bin"]
    file = StoredFile(name, len(data), sha256_bytes(data))
    for _ in range(2):  # loaded, then kept
        assert storage.fetch(file) == data
        spans = [Span(0, 10), Span(10, 30), Span(100, 7)]
        hashes = [sha256_bytes(data[start : start + size]) for start, size in spans]
        assert storage.spans(file, spans, hashes) == storage.spans(file, spans, None) == [data[s : s + n] for s, n in spans]
    for wrong in (file._replace(sha256="0" * 64), file._replace(bytes=len(data) + 1)):
        with pytest.raises(CacheCorruptError, match="e"):
            storage.fetch(wrong)
    with pytest.raises(CacheCorruptError, match="missing"):
        storage.fetch(file._replace(name="none", sha256="1" * 64))


def test_only_what_is_asked_for_is_loaded_and_only_once(web: Server, tmp_path: Path) -> None:
    storage = Storage(open_storage(f"{web.url}/store").source, Blobs(tmp_path / "blobs", 10**9))
    name, data = "b c/d#e?.bin", FILES["b c/d#e?.bin"]
    file, spans = StoredFile(name, len(data), sha256_bytes(data)), [Span(100, 50), Span(300, 20)]
    for _ in range(3):
        storage.spans(file, spans, [sha256_bytes(data[start : start + size]) for start, size in spans])
    assert web.given == 70


def test_a_piece_that_was_damaged_on_this_disk_is_loaded_again(web: Server, tmp_path: Path) -> None:
    storage = Storage(open_storage(f"{web.url}/store").source, Blobs(tmp_path / "blobs", 10**9))
    file = StoredFile("b c/f", 5, sha256_bytes(b"small"))
    storage.fetch(file)
    [kept] = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    kept.write_bytes(b"smart")
    assert storage.fetch(file) == b"small"
    assert kept.read_bytes() == b"small"


@pytest.mark.parametrize("name", ["link", "folder/f", "../outside", "pipe", "b c"])
def test_nothing_outside_the_folder_and_nothing_but_files(tmp_path: Path, name: str) -> None:
    root = write_files(tmp_path / "store")
    (tmp_path / "outside").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "folder").symlink_to(root / "b c")
    os.mkfifo(root / "pipe")
    source = FolderSource(root)
    for call in (source.size, lambda name: source.read(name, 0, 1), lambda name: source.whole(name, 10)):
        with pytest.raises((ValueError, OSError)):
            call(name)


def test_a_store_may_be_reached_through_a_link(tmp_path: Path) -> None:
    write_files(tmp_path / "store")
    (tmp_path / "link").symlink_to(tmp_path / "store")
    assert FolderSource(tmp_path / "link").whole("b c/f", 10) == b"small"


@pytest.mark.parametrize("name", ["../up", "/root", "a/../b", "C:/x", "a\\b", "a//b", "./a", "a\x00b", "a\nb", "."])
def test_members_with_names_that_lead_out(tmp_path: Path, name: str) -> None:
    path = tmp_path / "store.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("x" * len(name))
        info.filename = name
        archive.writestr(info, b"data")
    with pytest.raises(CacheFormatError, match=r"leads out|no zip"):
        ArchiveSource(FolderSource(tmp_path), "store.zip")


def test_links_compression_encryption_and_twins_are_refused(tmp_path: Path) -> None:
    def refuse(match: str) -> None:
        with pytest.raises(CacheFormatError, match=match):
            ArchiveSource(FolderSource(tmp_path), "store.zip")

    path = tmp_path / "store.zip"
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    refuse("link")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(10**6))
    refuse("compressed")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", "2")
    refuse("another one has")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"secret")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    refuse("encrypted")


def test_a_header_that_contradicts_the_directory(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "store.zip")
    data = bytearray(path.read_bytes())
    data[data.index(b"b c/f")] = ord("x")  # the first place is the member's own header
    path.write_bytes(data)
    source = ArchiveSource(FolderSource(tmp_path), "store.zip")
    with pytest.raises(ValueError, match="contradicts"):
        source.read("b c/f", 0, 5)


@pytest.mark.parametrize(
    "place", ["ftp://host/store", "file:///store", "https://", "gopher://x/y.zip", "s3://", "s3://key:s3cret@bucket/x"]
)
def test_addresses_of_other_kinds(place: str) -> None:
    with pytest.raises(SettingsError, match="address") as caught:
        open_storage(place)
    assert "s3cret" not in str(caught.value)


def test_passwords_are_sent_but_not_shown(web: Server) -> None:
    source = open_storage(web.url.replace("http://", "http://user:pa55@") + "/store").source
    assert source.whole("b c/f", 10) == b"small"
    assert "pa55" not in source.path("b c/f")
    assert "user" not in source.place
