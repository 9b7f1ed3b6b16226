"""The writer: parts appear whole or not at all, the first one stays, and nothing else is overwritten."""

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.durable import partial_path
from cross4d_cache.errors import CacheCorruptError, CacheIncompleteError, CacheMismatchError, OutputError
from cross4d_cache.store import CacheManifest, CacheWriter, PartContents, open_cache, verify
from cross4d_cache.store import writer as writer_module
from tests.cross4d_cache.store.store_examples import PROJECTION, make_manifest, make_part, two_parts, write_store


def files(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def open_writer(path: Path, parts: list[PartContents]) -> CacheWriter:
    return CacheWriter(path, make_manifest(parts), PROJECTION)


def test_a_part_is_invisible_until_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, seen = two_parts(), []
    writer = open_writer(tmp_path / "store", parts)
    rename = writer_module._rename

    def look_then_rename(source: Path, target: Path) -> bool:
        assert (source / "files.json").is_file()
        seen.append(list((tmp_path / "store" / "parts").glob("0*")))
        return rename(source, target)

    monkeypatch.setattr(writer_module, "_rename", look_then_rename)
    assert writer.commit(0, parts[0]) is True
    assert seen == [[]]
    assert writer.missing() == [1]


def test_the_first_commit_of_a_part_stays(tmp_path: Path) -> None:
    parts = two_parts()
    writer = open_writer(tmp_path / "store", parts)
    writer.commit(0, parts[0])
    before = files(tmp_path / "store")
    assert writer.commit(0, make_part([[5, 1, 7, 3], [2, 9, 4]], seed=9)) is False
    assert files(tmp_path / "store") == before


def test_of_several_writers_one_is_the_first(tmp_path: Path) -> None:
    parts = two_parts()
    assert [open_writer(tmp_path / "store", parts).first for _ in range(3)] == [True, False, False]


def test_a_folder_is_made_by_one_though_several_saw_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "is_there", lambda path: False)
    assert [writer_module.make_folder(tmp_path / "new" / "parts") for _ in range(2)] == [True, False]
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        writer_module.make_folder(tmp_path / "file")


def test_order_of_commits_does_not_matter(tmp_path: Path) -> None:
    parts = two_parts()
    writer = open_writer(tmp_path / "backwards", parts)
    writer.commit(1, parts[1])
    writer.commit(0, parts[0])
    writer.finish()
    assert files(tmp_path / "backwards") == files(write_store(tmp_path / "forwards", parts))


def test_finish_refuses_a_store_with_missing_parts(tmp_path: Path) -> None:
    parts = two_parts()
    writer = open_writer(tmp_path / "store", parts)
    writer.commit(1, parts[1])
    with pytest.raises(CacheIncompleteError, match="1 parts"):
        writer.finish()
    assert not CacheManifest.read(tmp_path / "store").complete


def test_finish_again_changes_nothing(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", two_parts())
    before = files(store)
    open_writer(store, two_parts()).finish()
    assert files(store) == before


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    parts = two_parts()
    open_writer(tmp_path / "store", parts)
    other = make_manifest(parts).model_copy(update={"seed": 4, "points_per_frame": 7})
    with pytest.raises(CacheMismatchError) as caught:
        CacheWriter(tmp_path / "store", other, PROJECTION)
    assert "seed: 4 here, 0 there" in str(caught.value)
    assert "points_per_frame: 7 here, 100 there" in str(caught.value)
    assert "render" not in str(caught.value)


def test_another_plan_is_refused(tmp_path: Path) -> None:
    open_writer(tmp_path / "store", two_parts())
    with pytest.raises(CacheMismatchError, match=r"plan\.num_parts: 1 here, 2 there"):
        open_writer(tmp_path / "store", two_parts()[:1])


def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="not a store"):
        open_writer(tmp_path, two_parts())
    assert files(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(OutputError, match="is a file"):
        open_writer(tmp_path / "store", two_parts())


@pytest.mark.parametrize("place", ["file/store", "/proc/store", "x" * 300])
def test_places_that_cannot_be_written_are_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(OutputError, match="cannot write"):
        open_writer(tmp_path / place, two_parts())


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert open_cache(write_store(tmp_path / "store", two_parts())).manifest.complete


def test_what_killed_processes_left_is_swept_at_finish(tmp_path: Path) -> None:
    parts = two_parts()
    clean = files(write_store(tmp_path / "clean", parts))
    writer = open_writer(tmp_path / "store", parts)
    left = partial_path(tmp_path / "store", "00001")
    left.mkdir()
    (left / "zarr.json").write_text("{")
    partial_path(tmp_path / "store", "zarr.json").write_text("{")
    write_parts(writer, parts)
    assert files(tmp_path / "store") == clean
    assert not list((tmp_path / "store").glob(".*"))


def write_parts(writer: CacheWriter, parts: list[PartContents]) -> None:
    for number, part in enumerate(parts):
        writer.commit(number, part)
    writer.finish()


def test_a_store_killed_before_its_first_manifest_can_be_started_again(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    partial_path(tmp_path / "store", "zarr.json").write_text("{")
    write_parts(open_writer(tmp_path / "store", two_parts()), two_parts())
    assert files(tmp_path / "store") == files(write_store(tmp_path / "clean", two_parts()))


def test_a_worker_that_is_overtaken_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = two_parts()
    slow = open_writer(tmp_path / "store", parts)
    write_part = writer_module.write_part

    def overtaken(folder: Path, contents: PartContents, fingerprint: str) -> None:
        write_part(folder, contents, fingerprint)
        monkeypatch.setattr(writer_module, "write_part", write_part)
        write_parts(open_writer(tmp_path / "store", parts), parts)
        assert not folder.exists()

    monkeypatch.setattr(writer_module, "write_part", overtaken)
    write_parts(slow, parts)
    assert files(tmp_path / "store") == files(write_store(tmp_path / "clean", parts))


def test_a_full_disk_is_named_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = two_parts()
    writer = open_writer(tmp_path / "store", parts)
    before = files(tmp_path / "store")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "sync_tree", full)
        with pytest.raises(OutputError, match="No space left"):
            writer.commit(0, parts[0])
    assert files(tmp_path / "store") == before
    write_parts(writer, parts)
    assert open_cache(tmp_path / "store").manifest.complete


def test_a_deleted_part_of_a_finished_store_is_built_again(tmp_path: Path) -> None:
    parts = two_parts()
    store = write_store(tmp_path / "store", parts)
    before = files(store)
    shutil.rmtree(store / "parts" / "00001")
    writer = open_writer(store, parts)
    assert writer.missing() == [1]
    writer.commit(1, parts[1])
    writer.finish()
    assert files(store) == before


def test_a_rebuilt_part_with_other_bytes_is_listed_anew(tmp_path: Path) -> None:
    parts = two_parts()
    store = write_store(tmp_path / "store", parts)
    shutil.rmtree(store / "parts" / "00001")
    writer = open_writer(store, parts)
    writer.commit(1, make_part([[8, 6, 1, 1, 3]], seed=5, first_id=2))  # as another machine's rounding might have it
    writer.finish()
    assert [problem for check in verify(open_cache(store)) for problem in check.problems] == []


@pytest.mark.parametrize("damage", ["other settings", "no metadata"])
def test_finish_refuses_parts_that_are_not_its_own(tmp_path: Path, damage: str) -> None:
    parts = two_parts()
    writer = open_writer(tmp_path / "store", parts)
    writer.commit(0, parts[0])
    if damage == "other settings":
        stranger = CacheWriter(tmp_path / "other", make_manifest(parts).model_copy(update={"seed": 1}), PROJECTION)
        stranger.commit(1, parts[1])
        shutil.copytree(tmp_path / "other" / "parts" / "00001", tmp_path / "store" / "parts" / "00001")
    else:
        (tmp_path / "store" / "parts" / "00001").mkdir()
        (tmp_path / "store" / "parts" / "00001" / "files.json").write_text("{}")
    with pytest.raises(CacheCorruptError, match="00001"):
        writer.finish()
    assert not CacheManifest.read(tmp_path / "store").complete


def test_the_projection_comes_back(tmp_path: Path) -> None:
    matrix = open_cache(write_store(tmp_path / "store", two_parts())).projection()
    assert matrix is not None
    np.testing.assert_array_equal(matrix, PROJECTION)
