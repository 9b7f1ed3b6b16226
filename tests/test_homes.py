"""Machines as they are: users without a home, file systems that cannot flush folders, umasks, and folders that file managers were in."""

import errno
import fcntl
import os
import pwd
import stat
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from cross4d_cache.cli import app as cache_app
from cross4d_cache.durable import flush, write_durably
from cross4d_cache.errors import OutputError
from cross4d_cache.sharing.pack import Pack
from cross4d_cache.store import check_place, open_cache
from cross4d_cache.store.storage.blobs import FOLDER, Blobs
from cross4d_train.cli.app import app as train_app
from cross4d_train.evaluation.evaluate import write_json
from cross4d_train.run import RunFolder
from cross4d_train.settings import EncoderSettings
from tests.servers.liar import Server

SMALL = ["--size", "tiny", "--frames", "3", "--points", "48", "--epochs", "1", "--workers", "0", "--device", "cpu"]
LEFT = (".DS_Store", "._data", "Thumbs.db", "desktop.ini", ".nfs0000000000a1b2", "lost+found")


def run(app: typer.Typer, *arguments: object) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A user of whom the system knows a number and no more, as in many containers."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_CACHE_HOME", FOLDER):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    return monkeypatch


def read(place: str) -> None:
    cache = open_cache(place)
    for index, info in enumerate(cache.sequences):
        cache.read_clip(index, np.arange(info.num_frames))


def test_a_user_without_a_home_reads_from_a_server(homeless: pytest.MonkeyPatch, small_store: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="home"):
        Path.home()
    server = Server(small_store.parent)
    try:
        url = f"{server.url}/{small_store.name}"
        read(url)
        assert not Blobs.of_user().folder.is_dir(), "nothing is kept"
        homeless.setenv(FOLDER, str(tmp_path / "kept"))
        read(url)
        assert any((tmp_path / "kept").iterdir())
        homeless.delenv(FOLDER)
        homeless.setenv("HOME", "/proc/nothing/can/be/made/here")
        read(url)
    finally:
        server.close()


@pytest.mark.parametrize("answer", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_file_systems_that_can_neither_flush_folders_nor_lock_are_written_to(
    answer: int, monkeypatch: pytest.MonkeyPatch, small_store: Path, tmp_path: Path
) -> None:
    def cannot(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(answer, os.strerror(answer))

    def no_locks(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(os, "fsync", cannot)
    monkeypatch.setattr(fcntl, "flock", no_locks)
    list(Pack(open_cache(small_store), tmp_path / "a.zip").run())
    run(cache_app, "pull", tmp_path / "a.zip", tmp_path / "a.zarr")
    run(cache_app, "merge", tmp_path / "a.zarr", tmp_path / "b.zarr")
    if answer == errno.EINVAL:
        run(train_app, "pretrain", "--cache", tmp_path / "a.zarr", "--out", tmp_path / "run", *SMALL)


def test_a_disk_that_fails_to_flush_is_not_believed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        write_durably(tmp_path / "file", b"data")
    with pytest.raises(OSError, match="Input/output error"):
        flush(0)


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_results_have_the_permissions_of_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_json(EncoderSettings(), tmp_path / "result.json")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "result.json").stat().st_mode) == 0o666 & ~umask
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_result_goes_into_a_pipe_and_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "file.json")
    write_json(EncoderSettings(), tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert EncoderSettings.from_json((tmp_path / "file.json").read_bytes()) == EncoderSettings()
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_json(EncoderSettings(), tmp_path / "pipe")
    assert EncoderSettings.from_json(os.read(reader, 4096)) == EncoderSettings()
    os.close(reader)


@pytest.mark.parametrize("name", LEFT)
def test_what_systems_leave_in_a_folder_is_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\0")
    check_place(tmp_path)
    RunFolder(tmp_path)
    (tmp_path / "thesis.tex").write_bytes(b"\0")
    with pytest.raises(OutputError):
        check_place(tmp_path)
    with pytest.raises(OutputError, match=r"thesis\.tex"):
        RunFolder(tmp_path)
