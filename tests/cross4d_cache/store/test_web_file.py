"""A file of a web server, read as a local one: any order of jumps and reads gives the same bytes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.errors import CacheUnreachableError, SettingsError
from cross4d_cache.store.storage import waiting, web_file
from cross4d_cache.store.storage.web_file import open_web_file
from tests.servers.cutter import Cutter
from tests.servers.liar import Server, errors, without_ranges

SIZE = 50_000


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "file").write_bytes(np.random.default_rng(0).bytes(SIZE))
    (tmp_path / "empty").touch()
    monkeypatch.setattr(waiting, "FIRST_WAIT", 0.001)
    monkeypatch.setenv(waiting.WAIT_MINUTES, "0")
    monkeypatch.setattr(web_file, "BLOCK", 512)
    server = Server(tmp_path)
    yield server
    server.close()


@pytest.mark.parametrize("way", ["honest", "without ranges", "cut"])
def test_jumps_and_reads_are_those_of_the_file(server: Server, tmp_path: Path, way: str) -> None:
    if way == "without ranges":
        server.answer = without_ranges
    cutter = Cutter(server.url, most=8_000)
    rng = np.random.default_rng(1)
    with open_web_file(f"{cutter.url if way == 'cut' else server.url}/file", hint="") as there, (tmp_path / "file").open("rb") as here:
        for _ in range(60):
            whence = int(rng.integers(3))
            offset = {0: rng.integers(SIZE + 9), 1: rng.integers(2000), 2: -rng.integers(SIZE)}[whence]
            assert there.seek(int(offset), whence) == here.seek(int(offset), whence)
            size = int(rng.integers(3000))
            assert there.read(size) == here.read(size)
            assert there.tell() == here.tell()
        assert there.seek(0) == 0
        assert there.read() == (tmp_path / "file").read_bytes()
        with pytest.raises(ValueError, match="before the file's beginning"):
            there.seek(-SIZE - 1, 2)
    cutter.close()
    assert (cutter.cuts > 0) == (way == "cut")


def test_reading_on_is_one_request(server: Server) -> None:
    with open_web_file(f"{server.url}/file", hint="") as there:
        while there.read(700):
            pass
    assert [headers["range"] for _, headers in server.asked] == ["bytes=0-0", f"bytes=0-{SIZE - 1}"], "its size, then all of it"


def test_what_cannot_be_had(server: Server) -> None:
    with open_web_file(f"{server.url}/empty", hint="") as there:
        assert there.read() == b""
    with pytest.raises(FileNotFoundError):
        open_web_file(f"{server.url}/none", hint="")
    with pytest.raises(SettingsError, match="begins with ftp://") as refused:
        open_web_file("ftp://host/file", hint="say another")
    assert refused.value.hint == "say another"
    with open_web_file(f"{server.url}/file", hint="") as there:
        server.answer = errors
        with pytest.raises(CacheUnreachableError, match="503"):
            there.read(1)
