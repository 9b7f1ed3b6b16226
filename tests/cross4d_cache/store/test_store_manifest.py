"""The manifest: refused when unknown, unfinished, edited or malformed; its fingerprint follows exactly what decides numbers."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from cross4d_cache.errors import CacheCorruptError, CacheFormatError, CacheIncompleteError, CacheMismatchError
from cross4d_cache.sharing.merge import Merge
from cross4d_cache.sharing.pull import Pull
from cross4d_cache.sharing.subset import Selection, Subset
from cross4d_cache.store import CacheManifest, CacheWriter, open_cache, verify
from cross4d_cache.store.digest import canonical_json, sha256_bytes
from cross4d_cache.store.part import parse_sequences, sequence_columns
from cross4d_cache.types import SequenceInfo
from tests.cross4d_cache.store.forgery import forge_part
from tests.cross4d_cache.store.store_examples import PROJECTION, make_manifest, two_parts, write_store


def edit(store: Path, change: Callable[[dict[str, Any]], object], *, checksum: bool = True) -> None:
    """Change the raw manifest, by default with a checksum that fits."""
    group = json.loads((store / "zarr.json").read_text())
    record = group["attributes"]["cross4d"]
    change(record)
    if checksum:
        del record["checksum"]
        record["checksum"] = sha256_bytes(json.dumps(record, sort_keys=True, separators=(",", ":")).encode())
    (store / "zarr.json").write_text(json.dumps(group))


def test_a_manifest_comes_back(tmp_path: Path) -> None:
    manifest = make_manifest(two_parts())
    manifest.write(tmp_path)
    assert CacheManifest.read(tmp_path) == manifest


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_unknown_versions_are_refused(store: Path, version: object) -> None:
    edit(store, lambda record: record.update(format_version=version))
    with pytest.raises(CacheFormatError, match="format version") as caught:
        open_cache(store)
    assert "update cross4d" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"attributes": {}}', b'{"attributes": {"cross4d": 3}}', b"\xff\xfe", b"[" * 10**5])
def test_folders_that_hold_no_store_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "zarr.json").write_bytes(content)
    with pytest.raises(CacheFormatError, match="not a Cross4D store"):
        open_cache(tmp_path)


@pytest.mark.parametrize("place", ["nothing", "x" * 300, "file"])
def test_places_without_a_store_are_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(CacheFormatError):
        open_cache(tmp_path / place)


def test_an_unfinished_store_is_refused(tmp_path: Path) -> None:
    parts = two_parts()
    CacheWriter(tmp_path / "store", make_manifest(parts), PROJECTION).commit(1, parts[1])
    with pytest.raises(CacheIncompleteError, match="1 of 2 parts"):
        open_cache(tmp_path / "store")


def test_an_unfinished_store_shows_its_committed_parts_on_request(tmp_path: Path) -> None:
    parts = two_parts()
    CacheWriter(tmp_path / "store", make_manifest(parts), PROJECTION).commit(1, parts[1])
    partial = open_cache(tmp_path / "store", allow_partial=True)
    whole = open_cache(write_store(tmp_path / "whole", parts))
    assert not partial.manifest.complete
    assert partial.sequences == parts[1].sequences
    np.testing.assert_array_equal(partial.read_clip(0, np.arange(5)).points, whole.read_clip(2, np.arange(5)).points)


def test_a_damaged_part_of_an_unfinished_store_is_named(tmp_path: Path) -> None:
    parts = two_parts()
    CacheWriter(tmp_path / "store", make_manifest(parts), PROJECTION).commit(1, parts[1])
    (tmp_path / "store" / "parts" / "00001" / "files.json").unlink()
    with pytest.raises(CacheCorruptError, match="00001"):
        open_cache(tmp_path / "store", allow_partial=True)


def test_edited_settings_do_not_fit_the_fingerprint(store: Path) -> None:
    edit(store, lambda record: record["teacher"].update(sha256="1" * 64))
    with pytest.raises(CacheFormatError, match="fingerprint"):
        open_cache(store)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["parts"][0].update(num_visible=99),
        lambda record: record["dataset"].update(action_names=["b", "a"]),
        lambda record: record["software"].update(python="2"),
        lambda record: record.update(fingerprint="0"),
        lambda record: record.update(checksum=None),
        lambda record: record.pop("checksum"),
    ],
)
def test_any_edit_is_noticed(store: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(store, change, checksum=False)
    with pytest.raises(CacheFormatError, match="checksum"):
        open_cache(store)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("points_per_frame", lambda record: record.update(points_per_frame="many")),
        ("teacher.mean.1", lambda record: record["teacher"].update(mean=[0.5])),
        ("plan", lambda record: record.pop("plan")),
        ("projection.kind", lambda record: record["projection"].update(kind="magic")),
        ("correspondence", lambda record: record.update(correspondence="magic")),
        ("parts.0.name", lambda record: record["parts"][0].update(name="../../elsewhere")),
    ],
)
def test_malformed_fields_are_named(store: Path, field: str, change: Callable[[dict[str, Any]], object]) -> None:
    edit(store, change)
    with pytest.raises(CacheFormatError) as caught:
        open_cache(store)
    assert repr(field) in str(caught.value)


def test_numbers_that_json_has_not_are_refused(store: Path) -> None:
    edit(store, lambda record: record["render"].update(margin=float("nan")))
    with pytest.raises(CacheFormatError, match="manifest"):
        open_cache(store)


FREE = {
    "complete",
    "dataset.fingerprint",
    "dataset.protocols",
    "dataset.action_names",
    "dataset.part_names",
    "plan.batch_frames",
    "plan.num_parts",
    "plan.num_sequences",
    "plan.num_frames",
    "plan.sha256",
    "software.python",
    "teacher.revision",
    "teacher.weights",
}
"""Fields that say how much was built, in which pieces, with what, where weights were found, and how classes are called."""


def leaves(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in record.items():
        flat |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


LEAVES = leaves(make_manifest(two_parts()).model_dump())
DECIDING = LEAVES.keys() - FREE - {"format_version", "parts"}


NAMES = {
    "correspondence": "shuffled",
    "projection.kind": "none",
    "render.camera": "window:8",
    "render.camera_model": "spherical",
    "render.visibility": "winner",
}
"""Another value of each setting that is a name."""


def other(path: str, value: object) -> object:
    if path in NAMES:
        return NAMES[path]
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, tuple):
        return (*value[:-1], other(path, value[-1])) if value else ("new",)
    return f"{value} or another"


def changed(path: str) -> CacheManifest:
    record = make_manifest(two_parts()).model_dump()
    *parents, last = path.split(".")
    inner = record
    for key in parents:
        inner = inner[key]
    inner[last] = other(path, inner[last])
    return CacheManifest.model_validate(record)


@pytest.mark.parametrize("path", sorted(DECIDING))
def test_fingerprint_follows_every_setting_that_decides_numbers(path: str) -> None:
    assert changed(path).fingerprint != make_manifest(two_parts()).fingerprint


@pytest.mark.parametrize("path", sorted(FREE))
def test_fingerprint_ignores_how_much_is_built_and_in_which_pieces(path: str) -> None:
    assert changed(path) != make_manifest(two_parts())
    assert changed(path).fingerprint == make_manifest(two_parts()).fingerprint


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"b": 1, "a": [1, 2]}) == canonical_json({"a": [1, 2], "b": 1}) == b'{"a":[1,2],"b":1}'


def from_the_future(manifest: CacheManifest, change: Callable[[dict[str, Any]], object]) -> CacheManifest:
    """A manifest as a newer release would write it."""
    record = manifest.model_dump(mode="json")
    change(record)
    return CacheManifest.from_json(json.dumps(record))


def future_store(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    parts = two_parts()
    parts[1] = replace(parts[1], sequences=(SequenceInfo.from_json(parts[1].sequences[0].model_dump_json()[:-1] + ',"mood":"calm"}'),))
    writer = CacheWriter(path, from_the_future(make_manifest(parts), change), PROJECTION)
    for number, part in enumerate(parts):
        writer.commit(number, part)
    writer.finish()
    return path


def optional(record: dict[str, Any]) -> None:
    record["weather"] = {"rain": 0.5}
    record["teacher"]["tongue"] = "la"


def test_a_store_from_the_future_opens_with_its_optional_fields(tmp_path: Path) -> None:
    cache, plain = open_cache(future_store(tmp_path / "a", optional)), make_manifest(two_parts())
    assert cache.manifest.unknown == ("weather", "teacher.tongue")
    assert [info.unknown for info in cache.sequences] == [(), (), ("mood",)]
    assert cache.manifest.fingerprint != plain.fingerprint
    assert [problem for check in verify(cache) for problem in check.problems] == []
    (tmp_path / "a" / "index.json").unlink()
    assert open_cache(tmp_path / "a").sequences == cache.sequences


def test_what_a_newer_release_wrote_is_passed_on(tmp_path: Path) -> None:
    cache = open_cache(future_store(tmp_path / "a", optional))
    for name, run in {
        "merged": Merge(tmp_path / "merged", [cache]),
        "cut": Subset(tmp_path / "cut", cache, Selection(cache, ids=["sequence 1", "sequence 2"])),
        "pulled": Pull(tmp_path / "a", tmp_path / "pulled"),
    }.items():
        list(run.run())
        copy = open_cache(tmp_path / name)
        assert copy.manifest.fingerprint == cache.manifest.fingerprint
        assert copy.manifest.unknown == cache.manifest.unknown
        assert copy.sequences[-1] == cache.sequences[-1]


def test_arrays_of_the_future_stay_in_whole_parts_and_are_named_where_a_part_is_cut(tmp_path: Path) -> None:
    store = write_store(tmp_path / "a", two_parts())
    shutil.copytree(store / "parts/00000/boxes", store / "parts/00000/curvature")
    forge_part(store)
    cache = open_cache(store)
    whole, cut = (Subset(tmp_path / name, cache, Selection(cache, ids=ids)) for name, ids in CHOICES.items())
    assert (whole.left_out, cut.left_out) == ((), ("curvature",))
    for run in (whole, cut):
        list(run.run())
    assert open_cache(tmp_path / "whole").part(0).unknown_arrays == ("curvature",)
    assert open_cache(tmp_path / "cut").part(0).unknown_arrays == ()


CHOICES = {"whole": ["sequence 0", "sequence 1"], "cut": ["sequence 1"]}


def test_stores_of_other_fields_do_not_become_one(tmp_path: Path) -> None:
    future, plain = open_cache(future_store(tmp_path / "a", optional)), open_cache(write_store(tmp_path / "b", two_parts()))
    with pytest.raises(CacheMismatchError) as caught:
        Merge(tmp_path / "c", [plain, future])
    assert "weather.rain: not set here, 0.5 there" in str(caught.value)
    assert "teacher.tongue: not set here, la there" in str(caught.value)
    planned = open_cache(future_store(tmp_path / "d", lambda record: record["plan"].update(order="morton")))
    with pytest.raises(CacheMismatchError, match=r"plan\.order"):
        Merge(tmp_path / "e", [plain, planned])


def test_an_unfinished_store_of_another_rule_is_not_finished(tmp_path: Path) -> None:
    manifest = make_manifest(two_parts())
    CacheWriter(tmp_path / "a", from_the_future(manifest, lambda record: record["render"].update(splat="gaussian")), PROJECTION)
    with pytest.raises(CacheMismatchError, match=r"render\.splat: not set here, gaussian there") as caught:
        CacheWriter(tmp_path / "a", manifest, PROJECTION)
    assert "delete" not in str(caught.value), "a store of another rule is as good as it was"


def test_a_sequence_without_frames_is_no_row_of_a_table() -> None:
    columns = sequence_columns(two_parts()[0].sequences)
    assert [info.num_frames for info in parse_sequences(columns)] == [4, 3]
    with pytest.raises(ValueError, match="num_frames = 0"):
        parse_sequences({**columns, "num_frames": [4, 0]})


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("weather", lambda record: record.update(weather=1, requires=["weather"])),
        ("render.splat", lambda record: record["render"].update(splat="gaussian", requires=["splat"])),
        ("parts.codec", lambda record: record["parts"][1].update(codec="new", requires=["codec"])),
    ],
)
def test_fields_that_must_be_known_are_refused_by_name(store: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    edit(store, change)
    with pytest.raises(CacheFormatError) as caught:
        open_cache(store)
    assert f"made by a newer release: this one does not know {name}" in str(caught.value)
    assert "update cross4d" in str(caught.value)


def test_walking_from_the_root_finds_the_parts(store: Path) -> None:
    parts = zarr.open_group(store, mode="r")["parts"]
    assert sorted(name for name, _ in parts.members()) == ["00000", "00001"]
    np.testing.assert_array_equal(parts["00001/points"][...], two_parts()[1].points)


def test_stores_without_the_group_of_parts_are_as_good(store: Path) -> None:
    (store / "parts" / "zarr.json").unlink()
    assert [problem for check in verify(open_cache(store)) for problem in check.problems] == []
    CacheWriter(store, make_manifest(two_parts()), PROJECTION).finish()
    assert "00000" in zarr.open_group(store, mode="r")["parts"]
