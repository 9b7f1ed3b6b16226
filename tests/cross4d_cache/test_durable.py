"""What is flushed before a folder is renamed into place: every folder, and every file but those that another store has flushed."""

import os
import threading
from pathlib import Path

import pytest

from cross4d_cache import durable
from cross4d_cache.durable import make_flushers, sync_tree


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found = list[str]()

    def note(descriptor: int) -> None:
        found.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not say which file a descriptor is of")
    monkeypatch.setattr(durable, "flush", note)
    return found


def test_every_folder_and_every_file_of_one_link_is_flushed_once(tmp_path: Path, flushed: list[str]) -> None:
    elsewhere, tree = tmp_path / "elsewhere", tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "empty").mkdir()
    for name in ("one", "a/two", "a/b/three"):
        (tree / name).write_bytes(b"x")
    elsewhere.write_bytes(b"y")
    os.link(elsewhere, tree / "a/linked")
    for flushers in (None, make_flushers()):
        flushed.clear()
        sync_tree(tree, flushers)
        assert sorted(flushed) == sorted(str(tree / name) for name in ("", "a", "a/b", "empty", "one", "a/two", "a/b/three"))


def test_an_error_of_the_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x")

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(durable, "flush", fail)
    with pytest.raises(OSError, match="Input/output error"):
        sync_tree(tmp_path)


def test_many_are_flushed_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(8, timeout=20)
    for number in range(7):
        (tmp_path / str(number)).write_bytes(b"x")
    arrived = list[int]()
    monkeypatch.setattr(durable, "flush", lambda descriptor: arrived.append(together.wait()))
    sync_tree(tmp_path)  # seven files and the folder, each of which waits for all
    assert sorted(arrived) == list(range(8))
