"""Unions and cuts of stores: the same numbers, the same bytes where parts stay whole, and clear words where it cannot be."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cross4d_cache.errors import CacheCorruptError, CacheMismatchError, SettingsError
from cross4d_cache.sharing.merge import Merge
from cross4d_cache.sharing.pack import Pack
from cross4d_cache.sharing.subset import Selection, Subset, read_ids
from cross4d_cache.store import Cache, CacheManifest, CacheWriter, PartContents, open_cache, verify
from tests.cross4d_cache.store.store_examples import PROJECTION, make_manifest, make_part, write_store


def parts(*sizes: list[list[int]], first_id: int = 0, seed: int = 0, **options: object) -> list[PartContents]:
    found, first = [], first_id
    for number, sequences in enumerate(sizes):
        found.append(make_part(sequences, seed=seed + number, first_id=first, **options))  # type: ignore[arg-type]
        first += len(sequences)
    return found


def write(path: Path, contents: list[PartContents], **changes: object) -> Path:
    manifest = make_manifest(contents).model_copy(update=changes)
    writer = CacheWriter(path, manifest, PROJECTION)
    for number, part in enumerate(contents):
        writer.commit(number, part)
    writer.finish()
    return path


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    first = write(tmp_path / "a.zarr", parts([[5, 1, 7], [2, 9]], [[3]]))
    return first, write(tmp_path / "b.zarr", parts([[4, 4]], first_id=10, seed=7))


def merged(out: Path, *stores: Path | str) -> Cache:
    list(Merge(out, [open_cache(store) for store in stores]).run())
    return open_cache(out)


def clips(cache: Cache) -> dict[str, list[bytes]]:
    found = {}
    for index, info in enumerate(cache.sequences):
        clip = vars(cache.read_clip(index, np.arange(info.num_frames), labels=True))
        cameras = [array for frame in range(info.num_frames) for camera in cache.cameras(index, frame) for array in vars(camera).values()]
        values = [*clip.values(), *cameras]
        found[info.id] = [value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode() for value in values]
    return found


def assert_whole(cache: Cache) -> None:
    assert [problem for check in verify(cache) for problem in check.problems] == []


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_merge_holds_the_parts_of_all(two: tuple[Path, Path], tmp_path: Path) -> None:
    cache = merged(tmp_path / "out", *two)
    assert_whole(cache)
    assert clips(cache) == clips(open_cache(two[0])) | clips(open_cache(two[1]))
    assert files(tmp_path / "out/parts/00002") == files(two[1] / "parts/00000")
    assert cache.manifest.fingerprint == open_cache(two[0]).manifest.fingerprint
    assert cache.manifest.plan.num_sequences == 4


def test_parts_are_linked_not_copied(two: tuple[Path, Path], tmp_path: Path) -> None:
    merged(tmp_path / "out", *two)
    ours, theirs = tmp_path / "out/parts/00000/points/c/0/0", two[0] / "parts/00000/points/c/0/0"
    assert ours.samefile(theirs)


def test_what_is_damaged_is_not_linked(two: tuple[Path, Path], tmp_path: Path) -> None:
    path = two[0] / "parts/00001/points/c/0/0"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CacheCorruptError, match="points"):
        merged(tmp_path / "out", *two)
    assert not (tmp_path / "out/parts/00001").exists()


def test_without_links_parts_are_copied_and_checked(two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def refuse(source: str, target: str, **options: bool) -> None:
        if ".zarr/" in str(source):
            raise OSError(18, "Invalid cross-device link")
        link(source, target, **options)

    monkeypatch.setattr(os, "link", refuse)
    cache = merged(tmp_path / "out", *two)
    assert_whole(cache)
    assert not (tmp_path / "out/parts/00000/points/c/0/0").samefile(two[0] / "parts/00000/points/c/0/0")
    path = two[0] / "parts/00000/points/c/0/0"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CacheCorruptError, match="points"):
        merged(tmp_path / "other", *two)


def test_the_same_merge_gives_the_same_bytes_and_again_changes_nothing(two: tuple[Path, Path], tmp_path: Path) -> None:
    merged(tmp_path / "x", *two)
    merged(tmp_path / "y", *two)
    before = files(tmp_path / "x")
    assert files(tmp_path / "y") == before
    merged(tmp_path / "x", *two)
    assert files(tmp_path / "x") == before


def test_shared_parts_are_taken_once(two: tuple[Path, Path], tmp_path: Path) -> None:
    first = merged(tmp_path / "ab", *two)
    again = merged(tmp_path / "again", tmp_path / "ab", two[1], two[0])
    assert [part.sha256 for part in again.manifest.parts] == [part.sha256 for part in first.manifest.parts]


def test_zips_merge_too(two: tuple[Path, Path], tmp_path: Path) -> None:
    list(Pack(open_cache(two[1]), tmp_path / "b.zip").run())
    assert clips(merged(tmp_path / "out", two[0], tmp_path / "b.zip")).keys() == {"sequence 0", "sequence 1", "sequence 2", "sequence 10"}


def test_differing_settings_are_listed(two: tuple[Path, Path], tmp_path: Path) -> None:
    other = write(tmp_path / "other", parts([[4]], first_id=20), points_per_frame=99, seed=5)
    with pytest.raises(CacheMismatchError) as caught:
        merged(tmp_path / "out", two[0], other)
    assert "points_per_frame: 100 here, 99 there" in str(caught.value)
    assert "seed: 0 here, 5 there" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_names_of_labels_must_agree(two: tuple[Path, Path], tmp_path: Path) -> None:
    dataset = make_manifest([]).dataset.model_copy(update={"action_names": ("b", "a")})
    other = write(tmp_path / "other", parts([[4]], first_id=20), dataset=dataset)
    with pytest.raises(CacheMismatchError, match="action_names"):
        merged(tmp_path / "out", two[0], other)


def test_a_sequence_in_parts_that_differ_is_named(two: tuple[Path, Path], tmp_path: Path) -> None:
    other = write(tmp_path / "other", parts([[4]], [[3]], first_id=1, seed=9))
    with pytest.raises(CacheMismatchError) as caught:
        merged(tmp_path / "out", two[0], other)
    assert "sequence 1" in str(caught.value)
    assert "subset" in str(caught.value)


def test_a_folder_of_something_else_is_left_alone(two: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(CacheMismatchError, match="other settings"):
        merged(two[1], *two)
    assert_whole(open_cache(two[1]))


def test_optional_arrays_that_only_some_have(tmp_path: Path) -> None:
    first = write(tmp_path / "a", parts([[5, 2]]))
    second = write(tmp_path / "b", parts([[4]], first_id=5, part_labels=False, surface_ids=False, frame_actions=False))
    cache = merged(tmp_path / "out", first, second)
    assert_whole(cache)
    assert cache.read_clip(0, np.arange(1), labels=True).part_labels is not None
    assert cache.read_clip(1, np.arange(1), labels=True).part_labels is None


# Subsets


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    contents = parts([[5, 1, 7], [2, 9], [4]], [[3, 3], [6]], [[1]], [[2, 2, 2], [8]])
    return write(tmp_path_factory.mktemp("whole") / "store.zarr", contents)


def subset(out: Path, store: Path, **conditions: object) -> Cache:
    cache = open_cache(store)
    list(Subset(out, cache, Selection(cache, **conditions)).run())  # type: ignore[arg-type]
    return open_cache(out)


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 7), min_size=1))
def test_any_subset_holds_the_same_numbers(whole: Path, tmp_path_factory: pytest.TempPathFactory, chosen: set[int]) -> None:
    out = tmp_path_factory.mktemp("subset") / "store"
    cache = subset(out, whole, ids=[f"sequence {index}" for index in chosen])
    assert_whole(cache)
    expected = clips(open_cache(whole))
    assert clips(cache) == {name: expected[name] for name in (f"sequence {index}" for index in sorted(chosen))}
    matrix = cache.projection()
    assert matrix is not None
    assert (matrix == PROJECTION).all()


def test_whole_parts_keep_their_bytes(whole: Path, tmp_path: Path) -> None:
    subset(tmp_path / "out", whole, ids=["sequence 3", "sequence 4", "sequence 6"])
    assert files(tmp_path / "out/parts/00000") == files(whole / "parts/00001")
    assert files(tmp_path / "out/parts/00001") != files(whole / "parts/00003")


def test_a_subset_of_everything_merges_with_the_whole_to_the_whole(whole: Path, tmp_path: Path) -> None:
    subset(tmp_path / "all", whole, ids=[f"sequence {index}" for index in range(8)])
    merged(tmp_path / "merged", whole, tmp_path / "all")
    assert files(tmp_path / "merged") == files(whole)


def test_two_halves_merge_to_the_same_numbers(whole: Path, tmp_path: Path) -> None:
    for name, ids in (("a", (0, 2, 5)), ("b", (1, 3, 4, 6, 7))):
        subset(tmp_path / name, whole, ids=[f"sequence {index}" for index in ids])
    assert clips(merged(tmp_path / "merged", tmp_path / "a", tmp_path / "b")) == clips(open_cache(whole))


def test_by_split_and_action(whole: Path, tmp_path: Path) -> None:
    train = subset(tmp_path / "train", whole, split="train")
    assert {info.splits["all"] for info in train.sequences} == {"train"}
    assert len(train.sequences) == sum(info.splits.get("all") == "train" for info in open_cache(whole).sequences)
    for name in ("b", "1"):
        cache = subset(tmp_path / name, whole, actions=[name])
        assert {info.action for info in cache.sequences} == {1}
    unsplit = subset(tmp_path / "unsplit", whole, split="unsplit")
    assert {str(info.splits) for info in unsplit.sequences} == {"{}"}
    assert len(subset(tmp_path / "most", whole, split="train+unsplit").sequences) == len(train.sequences) + len(unsplit.sequences)
    both = subset(tmp_path / "both", whole, split="train", actions=["a", "b"], ids=["sequence 1", "sequence 0"])
    assert [info.id for info in both.sequences] == ["sequence 1"]


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"split": "test"}, "no sequence meets"),
        ({"split": "neither"}, "unknown split 'neither'"),
        ({"protocol": "other"}, "no protocol 'other'"),
        ({"actions": ["jump"]}, "no sequence has action 'jump'"),
        ({"actions": ["b", "77"]}, "no sequence has action '77'"),
        ({"actions": ["B"]}, "did you mean 'b'"),
        ({"ids": ["sequence 99"]}, "does not have: sequence 99"),
        ({"ids": ["sequence 0", "Sequence 1"]}, "'Sequence 1' resembles 'sequence 1' but for case"),
        ({"ids": []}, "no sequence meets"),
    ],
)
def test_conditions_that_nothing_meets(whole: Path, tmp_path: Path, conditions: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        subset(tmp_path / "out", whole, **conditions)
    assert not (tmp_path / "out").exists()


def test_lists_of_ids(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("\ufeffa\n\n  b é \n", encoding="utf-8")
    assert read_ids(tmp_path / "ids.txt") == ["a", "b é"]
    for bad in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(SettingsError, match="cannot be read"):
            read_ids(bad)


def rename(parts: list[PartContents], name: str) -> list[PartContents]:
    return [
        replace(part, sequences=tuple(info.model_copy(update={"id": f"{name} {info.id}"}) for info in part.sequences)) for part in parts
    ]


def test_names_are_compared_as_unicode_composes_them(tmp_path: Path) -> None:
    first = write(tmp_path / "a", rename(parts([[5, 2]]), "é"))
    cache = subset(tmp_path / "out", first, ids=["e\u0301 sequence 0"])
    assert [info.id for info in cache.sequences] == ["é sequence 0"]
    second = write(tmp_path / "b", rename(parts([[5, 2]], seed=1), "e\u0301"))
    with pytest.raises(CacheMismatchError, match="both hold"):
        merged(tmp_path / "both", first, second)


def test_a_damaged_store_is_not_cut(whole: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(whole, tmp_path / "store"))
    path = store / "parts/00000/features/c/0/0"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    with pytest.raises(CacheCorruptError, match="features"):
        subset(tmp_path / "out", store, ids=["sequence 0"])


def test_the_plan_names_the_sequences(two: tuple[Path, Path], tmp_path: Path) -> None:
    cache = merged(tmp_path / "out", *two)
    record = json.loads((tmp_path / "out/zarr.json").read_text())["attributes"]["cross4d"]
    assert record["plan"]["num_frames"] == sum(info.num_frames for info in cache.sequences) == 8
    assert CacheManifest.read(tmp_path / "out") == cache.manifest


def test_windows_of_cameras_are_cut_as_well(tmp_path: Path) -> None:
    contents = [make_part([[2, 2, 2, 2], [3, 3]], first_id=0), make_part([[1, 1]], first_id=2)]
    # Windows of two frames: the first sequence has two of them.
    first = contents[0]
    contents[0] = replace(
        first,
        intrinsics=np.arange(3 * 2 * 9, dtype=np.float64).reshape(3, 2, 3, 3),
        world_to_camera=np.arange(3 * 2 * 16, dtype=np.float64).reshape(3, 2, 4, 4),
    )
    manifest = make_manifest(contents)
    store = write(tmp_path / "store", contents, render=manifest.render.model_copy(update={"camera": "window:2"}))
    cache = subset(tmp_path / "out", store, ids=["sequence 1"])
    assert cache.cameras(0, 0)[0].intrinsics[0, 0] == 2 * 2 * 9
    assert clips(cache)["sequence 1"] == clips(open_cache(store))["sequence 1"]


def test_stores_written_by_helpers_are_as_any(tmp_path: Path) -> None:
    assert_whole(open_cache(write_store(tmp_path / "store", parts([[3]]))))


def said_by(release: str, contents: list[PartContents], *, place: str, rate: float | None) -> CacheManifest:
    """A manifest of dataset `folder` as release 0.1 wrote it, all options of the reader in one place, or as this one does."""
    manifest = make_manifest(contents)
    options = {"noise": 0.5, **({"labels": place, "frame_rate": rate} if release == "0.1" else {})}
    dataset = manifest.dataset.model_copy(update={"name": "folder", "options": options})
    plan = manifest.plan.model_copy(update={} if release == "0.1" else {"description": {"frame_rate": rate}})
    return manifest.model_copy(update={"dataset": dataset, "plan": plan})


def write_said_by(release: str, path: Path, contents: list[PartContents], *, place: str = "labels.csv", rate: float | None = None) -> Path:
    manifest = said_by(release, contents, place=place, rate=rate)
    return write(path, contents, dataset=manifest.dataset, plan=manifest.plan)


@pytest.mark.parametrize(("others", "rate"), [("0.1", 30.0), ("this", 30.0), ("this", None)])
def test_stores_that_say_where_their_labels_lay_merge_with_others(others: str, rate: float | None, tmp_path: Path) -> None:
    shared = parts([[4, 4]], first_id=10, seed=7)
    first = write_said_by("0.1", tmp_path / "a.zarr", [*parts([[5, 1]]), *shared], place="/home/alice/x.csv", rate=None)
    second = write_said_by(others, tmp_path / "b.zarr", [*shared, *parts([[3]], first_id=20)], place="/home/bob/x.csv", rate=rate)
    before = files(first)
    assert_whole(open_cache(first))
    for one, two in ((first, second), (second, first)):
        cache = merged(tmp_path / f"{one.stem}{two.stem}.zarr", one, two)
        assert_whole(cache)
        assert len(cache.manifest.parts) == 3, "the part that both hold is taken once"
        assert cache.manifest.dataset.options == {"noise": 0.5}
        assert cache.manifest.plan.description == ({"frame_rate": None} if rate is None else {})
        assert clips(cache) == clips(open_cache(one)) | clips(open_cache(two))
        assert (
            merged(tmp_path / f"{one.stem}{two.stem}again.zarr", cache.storage.place, one).manifest.fingerprint
            == cache.manifest.fingerprint
        )
    assert files(first) == before, "its files are linked, and not written to"


def test_stores_that_all_say_the_same_place_stay_as_they_are(tmp_path: Path) -> None:
    stores = [write_said_by("0.1", tmp_path / f"{n}.zarr", parts([[4]], first_id=n), place="/home/alice/x.csv") for n in range(2)]
    cache = merged(tmp_path / "out", *stores)
    assert cache.manifest.fingerprint == open_cache(stores[0]).manifest.fingerprint
    assert files(tmp_path / "out/parts/00001") == files(stores[1] / "parts/00000")


def test_a_store_that_says_a_place_is_finished_from_another(tmp_path: Path) -> None:
    contents = parts([[5]], [[3]])
    begun = CacheWriter(tmp_path / "a.zarr", said_by("0.1", contents, place="/home/alice/x.csv", rate=30.0), PROJECTION)
    begun.commit(0, contents[0])
    with pytest.raises(CacheMismatchError, match=r"plan\.description\.frame_rate: 15\.0 here, 30\.0 there"):
        CacheWriter(tmp_path / "a.zarr", said_by("this", contents, place="", rate=15.0), PROJECTION)
    resumed = CacheWriter(tmp_path / "a.zarr", said_by("this", contents, place="", rate=30.0), PROJECTION)
    resumed.commit(1, contents[1])
    resumed.finish()
    cache = open_cache(tmp_path / "a.zarr")
    assert_whole(cache)
    assert cache.manifest.fingerprint == begun.manifest.fingerprint
    assert cache.manifest.dataset.options["labels"] == "/home/alice/x.csv", "what was recorded stays"
