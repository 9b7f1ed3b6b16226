"""Pieces that are kept on this machine: bounded, checked, and no reason for anything to fail."""

import os
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.errors import SettingsError
from cross4d_cache.store.digest import sha256_bytes
from cross4d_cache.store.storage.blobs import FOLDER, GIGABYTES, Blobs


def piece(number: int, size: int = 1000) -> bytes:
    return np.random.default_rng(number).bytes(size)


def put(blobs: Blobs, number: int, size: int = 1000) -> str:
    data = piece(number, size)
    blobs.put(sha256_bytes(data), data)
    return sha256_bytes(data)


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_is_put_is_got(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "b", 10**6)
    assert blobs.get("0" * 64) is None
    assert blobs.get(put(blobs, 1)) == piece(1)
    assert Blobs(tmp_path / "b", 10**6).get(sha256_bytes(piece(1))) == piece(1)


def test_no_more_space_than_allowed_and_the_last_used_stay(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, 100_000)
    first = put(blobs, 0)
    for number in range(1, 300):
        put(blobs, number)
        os.utime(tmp_path / first[:2] / first)
        if number % 5 == 0:
            assert used(tmp_path) <= 100_000
    assert used(tmp_path) > 70_000
    assert blobs.get(first) == piece(0)
    assert blobs.get(sha256_bytes(piece(3))) is None


def test_several_processes_share_one_bound(tmp_path: Path) -> None:
    everyone = [Blobs(tmp_path, 200_000) for _ in range(4)]
    for number in range(400):
        put(everyone[number % 4], number)
        if number % 5 == 0:
            assert used(tmp_path) <= 200_000


def test_pieces_that_are_too_large_are_not_kept(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, 10_000)
    assert blobs.get(put(blobs, 1, 9000)) is None
    assert Blobs(tmp_path, 0).get(put(Blobs(tmp_path, 0), 2)) is None


@pytest.mark.parametrize("damage", [b"", b"short", piece(2)])
def test_damaged_pieces_are_none_and_vanish(tmp_path: Path, damage: bytes) -> None:
    blobs = Blobs(tmp_path, 10**6)
    digest = put(blobs, 1)
    path = tmp_path / digest[:2] / digest
    path.write_bytes(damage)
    assert blobs.get(digest) is None
    assert not path.exists()


def test_nobody_elses_files_are_swept(tmp_path: Path) -> None:
    mine = [tmp_path / "photo.jpg", tmp_path / "ab" / "notes.txt", tmp_path / "ab" / "cd" / ("0" * 64)]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(50_000))
        os.utime(path, (0, 0))
    blobs = Blobs(tmp_path, 20_000)
    for number in range(100):
        put(blobs, number)
    assert all(path.exists() for path in mine)


def test_a_clock_that_was_set_back_or_ahead_only_changes_what_goes_first(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, 50_000)
    for number in range(40):
        digest = put(blobs, number)
        os.utime(tmp_path / digest[:2] / digest, (4e9, 4e9))  # in the year 2096
    for number in range(40, 200):
        put(blobs, number)
        assert used(tmp_path) <= 50_000


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    blobs = Blobs(tmp_path / "file" / "blobs", 10**6)
    assert blobs.get(put(blobs, 1)) is None


def test_place_and_bound_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setenv(GIGABYTES, "1.5")
    blobs = Blobs.of_user()
    assert (blobs.folder, blobs.most_bytes) == (tmp_path, 1_500_000_000)
    monkeypatch.delenv(GIGABYTES)
    assert Blobs.of_user().most_bytes == 20_000_000_000
    for wrong in ("many", "-1", "inf", "nan"):
        monkeypatch.setenv(GIGABYTES, wrong)
        with pytest.raises(SettingsError, match=f"{GIGABYTES}={wrong}"):
            Blobs.of_user()
