"""A control that is derived is the store that the build would have made, to the byte; what cannot be derived is refused."""

import os
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.build.engines.local import Build
from cross4d_cache.build.fitting import ProjectionFit
from cross4d_cache.build.plan import plan_build
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.datasets import open_dataset
from cross4d_cache.errors import CacheCorruptError, CacheMismatchError, SettingsError
from cross4d_cache.sharing.derive import derive
from cross4d_cache.sharing.merge import Merge
from cross4d_cache.sharing.pack import Pack
from cross4d_cache.store import NOT_VISIBLE, open_cache, verify
from cross4d_cache.teachers import load_teacher
from cross4d_cache.teachers.teacher import Teacher
from cross4d_cache.work import Remark, finish
from tests.cross4d_cache.store.store_examples import make_part, two_parts, write_store

GOLDEN = Path(__file__).parents[1] / "store" / "golden" / "store_v1.zip"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_whole(store: Path) -> None:
    assert [problem for check in verify(open_cache(store)) for problem in check.problems] == []


def build(data: Path, teacher: Teacher, out: Path, **settings: object) -> Path:
    dataset, chosen = open_dataset("msr_action3d", data), BuildSettings(**{"frames_per_part": 12, **settings})  # type: ignore[arg-type]
    fit = ProjectionFit(dataset, teacher, chosen, out)
    list(fit.run())
    list(Build(dataset, teacher, plan_build(dataset, teacher, chosen, fit.matrix), out).run())
    return out


@pytest.mark.parametrize(
    ("teacher", "settings"),
    [
        ("hf", {"views": 1, "projection": "random:16"}),
        ("hf", {"views": 3, "projection": "pca:4", "seed": 5, "visibility": "winner"}),
        ("vjepa2", {"views": 1, "seed": 1, "camera": "window:4"}),
        ("vjepa2", {"views": 2, "projection": "random:8", "points_per_frame": 60}),
    ],
)
def test_what_is_derived_is_what_would_be_built(
    teacher: str, settings: dict[str, object], msr_folder: Path, tiny_vit: Path, tiny_vjepa2: Path, tmp_path: Path
) -> None:
    """All files, so all arrays, the fingerprint and the hash of the manifest; image teachers, and video teachers whose windows overlap."""
    model = load_teacher(teacher, str(tiny_vit if teacher == "hf" else tiny_vjepa2), window=4 if teacher == "vjepa2" else 1)
    plain = build(msr_folder, model, tmp_path / "plain", **settings)
    built = build(msr_folder, model, tmp_path / "built", correspondence="shuffled", **settings)
    manifest = finish(derive(plain, tmp_path / "derived")).manifest
    assert manifest.fingerprint == open_cache(built).manifest.fingerprint != open_cache(plain).manifest.fingerprint
    derived, expected, before = files(tmp_path / "derived"), files(built), files(plain)
    assert derived == expected
    arrays = {name for name in expected if "/c/" in name}
    assert {name.split("/")[2] for name in arrays if expected[name] != before[name]} == {"patch_slot"}


def test_slots_are_permuted_within_a_frame_and_a_view_by_seed_and_id(tmp_path: Path) -> None:
    """Two frames, the second of two points of which view 0 sees one: worked out from the rule alone."""
    contents = make_part([[4, 2]], seed=3, tubelet=2)
    columns = {0: [0, 1, 2, NOT_VISIBLE, NOT_VISIBLE, 2], 1: [2, 2, 0, 1, 1, 0]}
    object.__setattr__(contents, "patch_slot", np.array([columns[0], columns[1]], np.uint16).T.copy())
    store = write_store(tmp_path / "plain", [contents])
    finish(derive(store, tmp_path / "out"))
    name = zlib.crc32(b"sequence 0")

    def order(frame: int, view: int, count: int) -> list[int]:
        return [int(place) for place in np.random.default_rng([0, name, frame, view + 1]).permutation(count)]

    first = [[0, 1, 2][place] for place in order(0, 0, 3)]
    second = [[2, 2, 0, 1][place] for place in order(0, 1, 4)]
    third = [[1, 0][place] for place in order(1, 1, 2)]
    found = open_cache(tmp_path / "out").part(0).rows("patch_slot", 0, 6)
    assert found[:, 0].tolist() == [*first, NOT_VISIBLE, NOT_VISIBLE, 2]
    assert found[:, 1].tolist() == [*second, *third]
    assert first != [0, 1, 2]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "store", two_parts())


def test_other_files_are_links_and_the_store_stays_as_it_was(store: Path, tmp_path: Path) -> None:
    before = files(store)
    finish(derive(store, tmp_path / "out"))
    same = [name for name in before if "parts/" in name and (tmp_path / "out" / name).samefile(store / name)]
    changed = {"patch_slot/zarr.json", "patch_slot/c/0/0", "zarr.json", "chunks.json", "files.json"}
    assert {name.split("/", 2)[2] for name in before if name.startswith("parts/0") and name not in same} == changed
    assert files(store) == before
    assert_whole(tmp_path / "out")


def test_without_links_the_files_are_copied(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(derive(store, tmp_path / "linked"))
    link = os.link

    def refuse(source: str, target: str, **options: bool) -> None:
        if Path(source).is_relative_to(store):
            raise OSError(18, "Invalid cross-device link")
        link(source, target, **options)  # zarr's own

    monkeypatch.setattr(os, "link", refuse)
    finish(derive(store, tmp_path / "copied"))
    assert files(tmp_path / "copied") == files(tmp_path / "linked")
    points = "parts/00000/points/c/0/0"
    assert not (tmp_path / "copied" / points).samefile(store / points)


def test_archives_and_stores_of_release_0_1_are_derived_from_too(store: Path, tmp_path: Path) -> None:
    finish(derive(store, tmp_path / "out"))
    list(Pack(open_cache(store), tmp_path / "store.zip").run())
    finish(derive(tmp_path / "store.zip", tmp_path / "of zip"))
    assert files(tmp_path / "of zip") == files(tmp_path / "out")
    finish(derive(GOLDEN, tmp_path / "golden"))
    assert_whole(tmp_path / "golden")
    assert not (tmp_path / "golden/parts/00000/chunks.json").exists()


def test_a_control_of_a_merged_store_is_the_merge_of_the_controls(tmp_path: Path) -> None:
    halves = [write_store(tmp_path / str(number), [part]) for number, part in enumerate(two_parts())]
    list(Merge(tmp_path / "merged", [open_cache(half) for half in halves]).run())
    finish(derive(tmp_path / "merged", tmp_path / "derived"))
    controls = [tmp_path / f"control{number}" for number in range(2)]
    for half, control in zip(halves, controls, strict=True):
        finish(derive(half, control))
    list(Merge(tmp_path / "expected", [open_cache(control) for control in controls]).run())
    assert files(tmp_path / "derived") == files(tmp_path / "expected")


def test_what_was_begun_is_resumed_and_what_is_damaged_is_made_anew(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    work = derive(store, out)
    while not (out / "parts/00000").exists():
        next(work)
    work.close()
    assert not open_cache(out, allow_partial=True).manifest.complete
    first = (out / "parts/00000/patch_slot/c/0/0").stat().st_mtime_ns
    finish(derive(store, out))
    assert (out / "parts/00000/patch_slot/c/0/0").stat().st_mtime_ns == first
    before = files(out)
    for name in ("parts/00001/patch_slot/c/0/0", "parts/00001/features/c/0/0", "index.json"):
        damaged = out / name
        data = bytearray(damaged.read_bytes())
        damaged.unlink()  # a link
        data[len(data) // 2] ^= 1
        damaged.write_bytes(data)
    finish(derive(store, out))
    assert files(out) == before
    assert (out / "parts/00000/patch_slot/c/0/0").stat().st_mtime_ns == first


def test_damage_of_the_store_is_not_passed_on(store: Path, tmp_path: Path) -> None:
    path = store / "parts/00001/features/c/0/0"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CacheCorruptError, match="features"):
        finish(derive(store, tmp_path / "out"))
    assert not (tmp_path / "out/parts/00001").exists()


@pytest.mark.parametrize(
    ("correspondence", "words"),
    [
        ("random", ["patches that no point lies in", "the command that built the store, with `correspondence` random"]),
        ("shifted:16", ["correspondence shifted:16 cannot be derived", "with `correspondence` shifted:16"]),
        ("zbuffer", ["no control 'zbuffer'", "shuffled"]),
        ("shufled", ["no control 'shufled'", "shuffled"]),
    ],
)
def test_other_correspondences_are_refused(correspondence: str, words: list[str], store: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        finish(derive(store, tmp_path / "out", correspondence))
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert not (tmp_path / "out").exists()


def test_controls_of_controls_and_places_of_other_stores_are_refused(store: Path, tmp_path: Path) -> None:
    finish(derive(store, tmp_path / "out"))
    with pytest.raises(SettingsError, match="is a control itself, of correspondence shuffled"):
        finish(derive(tmp_path / "out", tmp_path / "again"))
    with pytest.raises(CacheMismatchError, match="correspondence: shuffled here, zbuffer there"):
        finish(derive(store, shutil.copytree(store, tmp_path / "copy")))


def test_the_steps_are_bytes_of_all_parts(store: Path, tmp_path: Path) -> None:
    events = list(derive(store, tmp_path / "out"))
    total = sum(part.bytes for part in open_cache(store).manifest.parts)
    assert [(event.stage.name, event.done, event.stage.total) for event in events if not isinstance(event, Remark)] == [
        ("derive", 0, total),
        ("derive", open_cache(store).manifest.parts[0].bytes, total),
        ("derive", total, total),
    ]
