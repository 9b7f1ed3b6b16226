"""The manifest: refused when unknown, unfinished, edited or malformed; its fingerprint follows exactly what decides numbers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cross4d_cache.errors import CacheCorruptError, CacheFormatError, CacheIncompleteError
from cross4d_cache.store import CacheManifest, CacheWriter, open_cache
from cross4d_cache.store.digest import canonical_json, sha256_bytes
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
