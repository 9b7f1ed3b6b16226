"""Strays, errors that pass, missing permission, new time stamps: none of them is damage, and nothing is taken away because of one."""

import errno
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cross4d_cache import cli, patience
from cross4d_cache.errors import CacheCorruptError, CacheError, CacheMismatchError, CacheUnreadableError, OutputError
from cross4d_cache.sharing.pack import Pack
from cross4d_cache.sharing.pull import Pull
from cross4d_cache.store import CacheWriter, PartCheck, mark_damaged, open_cache, verify
from cross4d_cache.store import part as part_module
from cross4d_cache.store import writer as writer_module
from cross4d_cache.store.verify import Verification
from tests.cross4d_cache.store.forgery import forge_part
from tests.cross4d_cache.store.store_examples import PROJECTION, make_manifest, make_part, two_parts, write_store
from tests.cross4d_cache.store.test_hostile import read_all
from tests.cross4d_cache.store.test_store_corruption import flip, shard
from tests.cross4d_cache.store.test_store_writer import files
from tests.failing import below, failing

STRAYS = [
    ".DS_Store",
    "parts/._zarr.json",
    "parts/00000/.DS_Store",
    "parts/00000/points/c/0/._0",
    "parts/00001/features/Thumbs.db",
    "parts/00001/.nfs0000000000a1b2c300000004",
    "projection/desktop.ini",
]


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.0)


def add_strays(store: Path) -> None:
    for name in STRAYS:
        (store / name).write_bytes(b"Mac OS X")


def open_writer(store: Path) -> CacheWriter:
    return CacheWriter(store, make_manifest(two_parts()), PROJECTION)


def checks(store: Path) -> list[PartCheck]:
    return list(verify(open_cache(store)))


def verified(store: Path) -> Verification:
    return Verification(cache=open_cache(store), checks=tuple(checks(store)))


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["cross4d-cache", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_strays_are_no_damage(store: Path) -> None:
    truth = read_all(store)
    add_strays(store)
    before = files(store)
    assert sorted(stray for check in checks(store) for stray in check.strays) == sorted(STRAYS)
    assert not any(check.problems or check.unread for check in checks(store))
    writer = open_writer(store)
    list(mark_damaged(writer))
    assert writer.missing() == []
    writer.finish()
    assert files(store) == before
    assert read_all(store) == truth


def test_verify_names_strays_and_succeeds(store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    add_strays(store)
    assert run(monkeypatch, "verify", store, "--json") == 0
    said = capsys.readouterr()
    record = json.loads(said.out)
    assert (record["intact"], record["damaged"], record["problems"], record["unread"]) == (True, [], [], [])
    assert sorted(record["strays"]) == sorted(STRAYS)
    assert f"note: {len(STRAYS)} files of something else" in said.err
    assert "damage" not in said.err.replace("verify", "")


def test_what_is_being_written_aside_is_no_stray(store: Path) -> None:
    aside = store / ".00001.0123456789abcdef.partial"
    aside.mkdir()
    (aside / "zarr.json").write_text("{")
    assert not any(check.strays for check in checks(store))


def test_strays_do_not_become_files_of_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file manager looks into a folder that is being written, or a network file system keeps a file there that is gone."""
    write_array = part_module.write_array

    def with_strays(folder: Path, name: str, *arguments: Any) -> Any:
        written = write_array(folder, name, *arguments)
        for stray in (folder / ".DS_Store", folder / name / ".nfs0001"):
            stray.write_bytes(b"stray")
        return written

    monkeypatch.setattr(part_module, "write_array", with_strays)
    store = write_store(tmp_path / "store", two_parts())
    listed = json.loads((store / "parts/00000/files.json").read_text())
    assert (store / "parts/00000/.DS_Store").exists()
    assert not [name for name in listed if "DS_Store" in name or "nfs" in name]


def test_a_folder_of_strays_is_no_part(store: Path) -> None:
    before = files(store)
    shutil.rmtree(store / "parts/00001")
    shutil.rmtree(store / "projection")
    for name in ("parts/00001/.DS_Store", "projection/.nfs0001"):
        (store / name).parent.mkdir()
        (store / name).write_bytes(b"stray")
    writer = open_writer(store)
    assert writer.missing() == [1]
    writer.commit(1, two_parts()[1])
    writer.finish()
    assert files(store) == before


@pytest.mark.parametrize(
    ("number", "call", "times"),
    [
        (errno.ESTALE, "lstat", 1),
        (errno.ETIMEDOUT, "open", 4),
        (errno.EMFILE, "open", 4),
        (errno.EIO, "pread", 4),
        (errno.EINTR, "pread", 4),
    ],
)
def test_errors_that_pass_are_waited_out(pristine: Path, call: str, times: int, number: int) -> None:
    truth = read_all(pristine)
    with failing(number, below(pristine, call, times)) as failed:
        assert read_all(pristine) == truth
    assert failed
    with failing(number, below(pristine, call, times)):
        assert not any(check.problems or check.unread for check in checks(pristine))


@pytest.mark.parametrize("call", ["stat", "lstat", "open", "pread"])
def test_a_build_that_goes_on_waits_errors_out(store: Path, call: str) -> None:
    before = files(store)
    with failing(errno.ESTALE, below(store, call, 1)):
        writer = open_writer(store)
        list(mark_damaged(writer))
        assert writer.missing() == []
        writer.finish()
    assert files(store) == before


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES], ids=errno.errorcode.__getitem__)
@pytest.mark.parametrize(
    "name",
    ["parts/00000/points/c/0/0", "parts/00001/zarr.json", "parts/00000/files.json", "projection/c/0/0", "index.json", "parts/zarr.json"],
)
def test_what_cannot_be_read_is_not_damaged_and_stays(store: Path, tmp_path: Path, name: str, number: int) -> None:
    before, path = files(store), str(store / name)
    shutil.copytree(store, tmp_path / "copy")
    with failing(number, lambda call, looked_at: looked_at == path) as failed:
        found = checks(store)
        assert not any(check.problems for check in found)
        [error] = [error for check in found for error in check.unread][:1]
        assert error.found == f"{path} could not be read: {os.strerror(number)}"
        assert error.hint == ("look at the permissions of the file and of the folders above it" if number == errno.EACCES else
                              "look at the disk or the mounted share") + ", then run the same again; nothing was changed"  # fmt: skip
        with pytest.raises((CacheUnreadableError, OutputError)):
            list(mark_damaged(open_writer(store)))
    most = 1 if number == errno.EACCES else patience.ATTEMPTS
    assert max(failed.values()) % most == 0
    assert files(store) == before
    with failing(number, lambda call, looked_at: looked_at == str(tmp_path / "copy" / name)), pytest.raises((CacheError, OutputError)):
        list(Pull(store, tmp_path / "copy").run())
    assert {file: data for file, data in files(tmp_path / "copy").items() if ".partial/" not in file} == before


def test_verify_tells_damage_from_what_it_could_not_read(store: Path) -> None:
    silent = str(store / "parts/00001/points/c/0/0")
    with failing(errno.EACCES, lambda call, path: path == silent):
        found = verified(store)
        with pytest.raises(CacheUnreadableError) as caught:
            found.refuse()
        assert "could not be read: Permission denied" in str(caught.value)
        assert "build" not in str(caught.value)
        flip(shard(store, "features"), 99)
        found = verified(store)
    record = found.as_record()
    assert (record["damaged"], len(record["unread"]), record["intact"]) == (["00000"], 1, False)
    with pytest.raises(CacheCorruptError, match="Permission denied") as damaged:
        found.refuse()
    assert "damaged files (1), of 00000:" in str(damaged.value)


def test_verify_without_permission_ends_with_one_message(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, code in (("parts/00000/boxes/c/0/0/0", 2), ("zarr.json", 2), ("", 2)):
        with failing(errno.EACCES, lambda call, path, denied=str(store / name if name else store): path == denied):
            assert run(monkeypatch, "verify", store) == code
        said = capsys.readouterr().err
        assert "could not be read: Permission denied" in said
        assert "next: look at the permissions" in said
        assert "damaged" not in said.replace("whether these are damaged is not known", "")


@pytest.mark.parametrize("name", ["parts/00001", "projection"])
def test_what_is_damaged_stays_until_its_replacement_is_whole(store: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before = files(store)
    path = next(path for path in (store / name).rglob("0") if path.is_file())
    flip(path, 100)
    damaged = files(store)
    writer = open_writer(store)
    list(mark_damaged(writer))
    assert files(store) == damaged
    assert writer.missing() == ([1] if name == "parts/00001" else [])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for step in ("sync_tree", "_rename"):
        with monkeypatch.context() as patch:
            patch.setattr(writer_module, step, full)
            with pytest.raises(OutputError, match="No space left"):
                writer.commit(1, two_parts()[1]) if name == "parts/00001" else writer.finish()
        assert files(store) == damaged
    if name == "parts/00001":
        writer.commit(1, two_parts()[1])
    writer.finish()
    assert files(store) == before
    assert writer.missing() == []


def test_a_worker_whose_damaged_part_another_has_replaced_gives_way(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(store)
    flip(shard(store, "points", part=1), 100)
    slow, quick = open_writer(store), open_writer(store)
    for writer in (slow, quick):
        list(mark_damaged(writer))
    write_part = writer_module.write_part

    def overtaken(folder: Path, *arguments: Any) -> None:
        write_part(folder, *arguments)
        monkeypatch.setattr(writer_module, "write_part", write_part)
        quick.commit(1, two_parts()[1])
        quick.finish()
        assert not folder.exists()

    monkeypatch.setattr(writer_module, "write_part", overtaken)
    slow.commit(1, two_parts()[1])
    slow.finish()
    assert files(store) == before


def touch(store: Path) -> None:
    """Other time stamps, and nothing else."""
    for number, path in enumerate(sorted(store.rglob("*")) if store.is_dir() else [store]):
        os.utime(path, (2e9 + number, 2e9 + number))


@pytest.mark.parametrize("kind", ["folder", "of release 0.1", "zip"])
def test_a_touch_under_a_reader_changes_nothing(store: Path, tmp_path: Path, kind: str) -> None:
    if kind == "of release 0.1":
        for number in range(2):
            (store / f"parts/0000{number}/chunks.json").unlink()
            forge_part(store, number)
    place = store
    if kind == "zip":
        place = tmp_path / "store.zip"
        list(Pack(open_cache(store), place).run())
    cache = open_cache(place)
    truth = [vars(cache.read_clip(index, np.arange(3), labels=True)) for index in range(3)]
    for _ in range(2):
        touch(place)
        for index in range(3):
            np.testing.assert_equal(vars(cache.read_clip(index, np.arange(3), labels=True)), truth[index])


@pytest.mark.parametrize("hashes", [True, False])
def test_other_bytes_under_a_reader_are_refused(tmp_path: Path, hashes: bool) -> None:
    store, other = (write_store(tmp_path / str(seed), [make_part([[5, 1, 7]], seed=seed)]) for seed in (1, 2))
    if not hashes:
        (store / "parts/00000/chunks.json").unlink()
        forge_part(store)
    cache = open_cache(store)
    cache.read_clip(0, np.arange(3))
    assert shard(store, "points").stat().st_size == shard(other, "points").stat().st_size
    shutil.copy(shard(other, "points"), shard(store, "points"))
    touch(store)
    for _ in range(2):
        with pytest.raises(CacheCorruptError, match="points"):
            cache.read_clip(0, np.arange(3))


def test_errors_survive_the_way_from_a_worker() -> None:
    error = CacheMismatchError("two stores differ:", details=["seed: 1 here, 2 there", "a\nb"], expected="one", hint="the other")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert str(error) == "two stores differ:\n    seed: 1 here, 2 there\n    a\\nb\n  expected: one\n  next: the other"
