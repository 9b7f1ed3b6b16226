"""Damaged bytes raise; they never become numbers."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cross4d_cache.errors import CacheCorruptError, CacheError
from cross4d_cache.store import Cache, open_cache, verify
from cross4d_cache.store.part import LAYOUT, PartContents
from tests.cross4d_cache.store.store_examples import make_part, two_parts, write_store

CLIP_ARRAYS = sorted(LAYOUT.keys() - {"intrinsics", "world_to_camera"})
FLIPS = 10
"""Flipped bits a file, one at a time."""


def read_all(cache: Cache) -> list[Any]:
    """Everything a trainer reads of the first sequence: all of its clip, its cameras, and the projection."""
    clip = vars(cache.read_clip(0, np.arange(4), labels=True))
    cameras = [array for camera in cache.cameras(0, 0) for array in (camera.intrinsics, camera.world_to_camera)]
    values = [*clip.values(), *cameras, cache.projection()]
    return [(value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value for value in values]


def shard(store: Path, array: str, part: int = 0) -> Path:
    [path] = (path for path in (store / "parts" / f"{part:05d}" / array / "c").rglob("*") if path.is_file())
    return path


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def flip_many(store: Path, path: Path) -> tuple[int, int]:
    """Flip bits of a file, one at a time, and read: how many raised, and how many gave the true numbers all the same."""
    truth, intact = read_all(open_cache(store)), path.read_bytes()
    rng = np.random.default_rng(len(intact))
    raised = harmless = 0
    for bit in rng.choice(len(intact) * 8, FLIPS, replace=False).tolist():
        flip(path, bit)
        try:
            assert read_all(open_cache(store)) == truth, f"bit {bit} of {path.name} changed numbers"
            harmless += 1
        except CacheError:
            raised += 1
        path.write_bytes(intact)
    return raised, harmless


def file_names() -> list[str]:
    """Files that reading the first sequence touches, relative to the store."""
    part = [f"parts/00000/{name}/zarr.json" for name in sorted(LAYOUT)]
    return ["zarr.json", "projection/zarr.json", "parts/00000/zarr.json", "parts/00000/files.json", *part]


@pytest.mark.parametrize("array", sorted(LAYOUT))
def test_flipped_bits_of_chunk_files_raise(store: Path, array: str) -> None:
    raised, harmless = flip_many(store, shard(store, array))
    # A few bits of a zstd stream mean nothing (padding, a reserved header bit): the numbers are the true ones then.
    assert raised >= FLIPS - 1
    assert raised + harmless == FLIPS


def test_flipped_bits_of_the_projection_raise(store: Path) -> None:
    assert flip_many(store, store / "projection" / "c" / "0" / "0")[0] >= FLIPS - 1


@pytest.mark.parametrize("name", file_names())
def test_flipped_bits_of_metadata_never_change_numbers(store: Path, name: str) -> None:
    raised, harmless = flip_many(store, store / name)
    # The manifest and the projection carry hashes of their contents; fields beside those decide nothing that is read.
    assert raised == FLIPS or name in ("zarr.json", "projection/zarr.json")
    assert raised > harmless


@pytest.mark.parametrize("bit", [2, 3, 4, 5])
def test_flags_of_the_zstd_header_cannot_switch_its_checksum_off(store: Path, bit: int) -> None:
    path = shard(store, "features")
    truth, magic = read_all(open_cache(store)), path.read_bytes().index(b"\x28\xb5\x2f\xfd")
    flip(path, (magic + 4) * 8 + bit)
    try:
        assert read_all(open_cache(store)) == truth
    except CacheCorruptError:
        return
    assert bit == 4, "only the reserved bit may be ignored"


@pytest.mark.parametrize("array", CLIP_ARRAYS)
def test_a_clip_of_a_store_with_a_truncated_file_raises(store: Path, array: str) -> None:
    path = shard(store, array)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CacheCorruptError, match=array):
        open_cache(store).read_clip(0, np.arange(4), labels=True)


@pytest.mark.parametrize("array", CLIP_ARRAYS)
def test_a_clip_of_a_store_with_a_missing_file_raises(store: Path, array: str) -> None:
    shard(store, array).unlink()
    with pytest.raises(CacheCorruptError, match=array):
        open_cache(store).read_clip(0, np.arange(4), labels=True)


@pytest.mark.parametrize(
    "array", ["points", "patch_slot", "features", "feature_patch", "frame_features", "part_labels", "surface_ids", "frame_actions"]
)
@pytest.mark.parametrize("change", ["deleted", "truncated", "emptied"])
def test_files_that_change_after_opening_raise(store: Path, array: str, change: str) -> None:
    cache = open_cache(store)
    cache.read_clip(0, np.arange(4), labels=True)
    path = shard(store, array)
    if change == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: -1 if change == "truncated" else 0])
    with pytest.raises(CacheCorruptError, match=array):
        cache.read_clip(0, np.arange(4), labels=True)


@pytest.mark.parametrize("array", ["points", "features", "patch_slot", "point_offsets"])
def test_a_file_of_another_part_does_not_pass(store: Path, array: str) -> None:
    shutil.copy(shard(store, array, part=1), shard(store, array))
    with pytest.raises(CacheCorruptError, match=array):
        open_cache(store).read_clip(0, np.arange(4), labels=True)


@pytest.mark.parametrize("array", ["boxes", "intrinsics", "world_to_camera"])
def test_a_file_of_equal_size_from_another_store_does_not_pass(store: Path, tmp_path: Path, array: str) -> None:
    other = write_store(tmp_path / "other", [make_part([[5, 1, 7, 3], [2, 9, 4]], seed=8), two_parts()[1]])
    assert shard(other, array).stat().st_size == shard(store, array).stat().st_size
    shutil.copy(shard(other, array), shard(store, array))
    with pytest.raises(CacheCorruptError, match=array):
        read_all(open_cache(store))


def test_a_part_folder_that_is_gone_raises(store: Path) -> None:
    shutil.rmtree(store / "parts" / "00001")
    cache = open_cache(store)
    with pytest.raises(CacheCorruptError, match="00001"):
        cache.read_clip(2, np.arange(1))


def test_parts_that_changed_places_raise(store: Path) -> None:
    parts = store / "parts"
    (parts / "00000").rename(parts / "x")
    (parts / "00001").rename(parts / "00000")
    (parts / "x").rename(parts / "00001")
    with pytest.raises(CacheCorruptError, match="bytes differ"):
        open_cache(store).read_clip(0, np.arange(1))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("point_offsets", np.array([0, 5, 4, 13, 16, 18, 27, 31])),
        ("feature_offsets", np.array([0, 1, 2, 3, 4000])),
        ("frame_tubelet", np.array([0, 0, 1, 1, 2, 2, 9])),
    ],
)
def test_tables_that_contradict_one_another_raise(tmp_path: Path, field: str, values: np.ndarray) -> None:
    part = make_part([[5, 1, 7, 3], [2, 9, 4]])
    broken = PartContents(**{**vars(part), field: values})
    store = write_store(tmp_path / "store", [broken])
    with pytest.raises(CacheCorruptError, match="contradict"):
        open_cache(store).read_clip(0, np.arange(4))


def problems(store: Path) -> list[str]:
    return [problem for check in verify(open_cache(store)) for problem in check.problems]


def test_verify_passes_an_intact_store_and_counts_its_bytes(store: Path) -> None:
    checks = list(verify(open_cache(store)))
    assert [problem for check in checks for problem in check.problems] == []
    listed = [path for path in (store / "parts").glob("*/**/*") if path.is_file()]
    assert sum(check.num_bytes for check in checks if check.name != "projection") == sum(path.stat().st_size for path in listed)


def test_verify_names_every_damaged_file_at_once(store: Path) -> None:
    flip(shard(store, "points"), 100)
    shard(store, "features").unlink()
    truncated = shard(store, "boxes", part=1)
    truncated.write_bytes(truncated.read_bytes()[:-3])
    flip(store / "projection" / "c" / "0" / "0", 77)
    found = problems(store)
    damaged = [shard(store, "points"), store / "parts/00000/features/c/0/0", truncated, store / "projection"]
    assert len(found) == len(damaged)
    assert all(any(str(path) in problem for problem in found) for path in damaged)


@pytest.mark.parametrize("name", ["parts/00000/files.json", "parts/00000/zarr.json", "parts/00001/points/zarr.json"])
def test_verify_names_damaged_metadata(store: Path, name: str) -> None:
    flip(store / name, 333)
    [problem] = problems(store)
    assert str(store / name) in problem


def test_verify_notices_what_reading_cannot_a_valid_file_of_equal_size(store: Path, tmp_path: Path) -> None:
    other = write_store(tmp_path / "other", [make_part([[5, 1, 7, 3], [2, 9, 4]], seed=8), two_parts()[1]])
    assert shard(other, "points").stat().st_size == shard(store, "points").stat().st_size
    shutil.copy(shard(other, "points"), shard(store, "points"))
    assert any("points" in problem for problem in problems(store))
