"""A store as one file, read in place, and back."""

import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.errors import CacheCorruptError, CacheError, CacheFormatError, OutputError
from cross4d_cache.sharing.pack import Pack
from cross4d_cache.sharing.pull import Pull
from cross4d_cache.store import open_cache, verify
from tests.cross4d_cache.store.store_examples import two_parts, write_store
from tests.cross4d_cache.store.test_hostile import read_all


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "store.zarr", two_parts())


def pack(store: Path, out: Path) -> Path:
    steps = list(Pack(open_cache(store), out).run())
    assert steps[-1] == Pack(open_cache(store), out.with_name("x.zip")).total
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_pack_is_read_in_place(store: Path, tmp_path: Path) -> None:
    path = pack(store, tmp_path / "store.zip")
    assert read_all(path) == read_all(store)
    assert [problem for check in verify(open_cache(path)) for problem in check.problems] == []
    assert path.stat().st_size < sum(map(len, files(store).values())) + 300 * len(files(store))


def test_any_unzip_takes_it_apart(store: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(pack(store, tmp_path / "store.zip")) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "unzipped")
    assert files(tmp_path / "unzipped") == files(store)


def test_there_and_back_again(store: Path, tmp_path: Path) -> None:
    list(Pull(pack(store, tmp_path / "store.zip"), tmp_path / "back.zarr").run())
    assert files(tmp_path / "back.zarr") == files(store)
    assert pack(tmp_path / "back.zarr", tmp_path / "again.zip").read_bytes() == (tmp_path / "store.zip").read_bytes()


def test_a_damaged_store_is_not_packed_and_nothing_stays(store: Path, tmp_path: Path) -> None:
    path = store / "parts/00001/points/c/0/0"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CacheCorruptError, match="points"):
        pack(store, tmp_path / "store.zip")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["store.zarr"]


@pytest.mark.parametrize("name", ["store.zip", "store.tar", "nowhere/store.zip"])
def test_places_that_cannot_be(store: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "store.zip").write_bytes(b"mine")
    with pytest.raises(OutputError):
        Pack(open_cache(store), tmp_path / name)
    assert (tmp_path / "store.zip").read_bytes() == b"mine"


def test_what_killed_processes_left_is_swept(store: Path, tmp_path: Path) -> None:
    (tmp_path / ".my store-1.zip.0123456789abcdef.partial").write_bytes(b"half")
    (tmp_path / ".other.zip.0123456789abcdef.partial").write_bytes(b"another's")
    pack(store, tmp_path / "my store-1.zip")
    assert sorted(item.name for item in tmp_path.iterdir()) == [".other.zip.0123456789abcdef.partial", "my store-1.zip", "store.zarr"]


def test_a_zip_that_is_replaced_while_it_is_open(store: Path, tmp_path: Path) -> None:
    path = pack(store, tmp_path / "store.zip")
    cache = open_cache(path)
    before = cache.read_clip(0, np.arange(2))
    path.write_bytes(path.read_bytes() + b"more")
    np.testing.assert_equal(vars(cache.read_clip(0, np.arange(2))), vars(before))  # what is read is the same
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    with pytest.raises(CacheCorruptError, match="replaced"):
        cache.read_clip(0, np.arange(2))


def test_zips_of_other_tools(store: Path, tmp_path: Path) -> None:
    """Stored members are all that is asked for; Python's own command compresses and is refused."""
    names = sorted(files(store))
    with zipfile.ZipFile(tmp_path / "stored.zip", "w") as archive:
        archive.mkdir("parts")
        for name in reversed(names):
            archive.write(store / name, name)
    assert read_all(tmp_path / "stored.zip") == read_all(store)
    subprocess.run(["python3", "-m", "zipfile", "-c", str(tmp_path / "deflated.zip"), *names], cwd=store, check=True)
    with pytest.raises(CacheFormatError, match="compressed"):
        open_cache(tmp_path / "deflated.zip")


@pytest.mark.parametrize("name", ["projection/c/0/0", "index.json", "zarr.json"])
def test_what_belongs_to_no_part_is_checked_too(store: Path, tmp_path: Path, name: str) -> None:
    cache, path = open_cache(store), store / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CacheError, match=name.partition("/")[0]):
        list(Pack(cache, tmp_path / "store.zip").run())
    (tmp_path / "elsewhere").write_bytes(data)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CacheError, match="link"):
        list(Pack(cache, tmp_path / "store.zip").run())
    assert not (tmp_path / "store.zip").exists()


def test_a_link_to_a_zip_is_followed(store: Path, tmp_path: Path) -> None:
    (tmp_path / "link.zip").symlink_to(pack(store, tmp_path / "store.zip"))
    assert read_all(tmp_path / "link.zip") == read_all(store)
