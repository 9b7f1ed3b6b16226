"""Stores from anybody: forged manifests, lists, tables and archives end in one error, never in memory, files or code of ours."""

import json
import os
import resource
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cross4d_cache.errors import CacheCorruptError, CacheError, CacheFormatError
from cross4d_cache.sharing.pack import Pack
from cross4d_cache.store import CacheManifest, open_cache, verify
from cross4d_cache.store.digest import sha256_bytes
from cross4d_cache.store.index import write_index
from tests.cross4d_cache.store.forgery import edit_json, edit_manifest, forge_part
from tests.cross4d_cache.store.store_examples import make_manifest, two_parts, use

HOSTILE = [2**40, -1, 1.5, True, None, "x", [], {}, float("nan"), float("inf"), "9" * 5000, 2**200, [[]] * 3]


@pytest.fixture(autouse=True)
def _bounded_memory() -> Any:
    """Any allocation that a declared size alone could cause fails."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def refuse(store: Path, kind: type[CacheError] = CacheError) -> str:
    with pytest.raises(kind) as caught:
        use(store)
    assert len(str(caught.value)) < 3000
    return str(caught.value)


def leaves(record: Any, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(record, dict):
        return [leaf for key, value in record.items() for leaf in leaves(value, (*prefix, key))]
    return [prefix]


@pytest.mark.parametrize("path", leaves(make_manifest(two_parts()).model_dump(mode="json")), ids=".".join)
def test_every_field_of_the_manifest_holds_its_type(pristine: Path, tmp_path: Path, path: tuple[str, ...]) -> None:
    for number, value in enumerate(HOSTILE):
        store = tmp_path / str(number)
        store.mkdir()
        shutil.copy(pristine / "zarr.json", store)

        def change(record: dict[str, Any], value: Any = value) -> None:
            target = record
            for key in path[:-1]:
                target = target[key]
            target[path[-1]] = value

        edit_manifest(store, change)
        try:
            kept: Any = CacheManifest.read(store).model_dump(mode="json")
        except CacheFormatError as error:
            message = str(error)
        else:  # it decides nothing, and is of the right type
            for key in path:
                kept = kept[key]
            message = ""
            assert (type(kept), kept) == (type(value), value)
        assert len(message) < 1000


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("field", ["num_sequences", "num_frames", "num_points", "num_rows", "num_visible", "bytes", "name", "sha256"])
def test_records_of_parts(store: Path, field: str, value: Any) -> None:
    edit_manifest(store, lambda record: record["parts"][0].update({field: value}))
    refuse(store)


def test_deep_and_long_manifests(tmp_path: Path) -> None:
    deep = '{"a":' * 900 + "1" + "}" * 900
    for text in (
        "[" * 10**6, deep, '{"attributes": {"cross4d": ' + deep + "}}", '{"attributes":{"cross4d":{"format_version":1,"x":' + deep + "}}}",
        '{"zarr_format":3,"node_type":"group","attributes":{"cross4d":{"format_version":1,"dataset":' + deep + "}}}",
        '{"attributes":{"cross4d":{"format_version":"' + "x" * 10**6 + '"}}}',
    ):  # fmt: skip
        (tmp_path / "zarr.json").write_text(text)
        with pytest.raises(CacheFormatError) as caught:
            CacheManifest.read(tmp_path)
        assert len(str(caught.value)) < 1000


def test_a_manifest_larger_than_any_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "zarr.json").open("wb") as file:
        file.truncate(2**40)  # a hole: nothing on the disk
    with pytest.raises(CacheFormatError):
        CacheManifest.read(tmp_path)


@pytest.mark.parametrize(
    "name", ["../../outside", "/etc/passwd", "points/../../../outside", "C:/x", "a\\b", "", "points//zarr.json", "a\nb", "a\x7f", "a\x9b"]
)
def test_lists_of_files_that_lead_out(store: Path, name: str) -> None:
    (store.parent / "outside").write_bytes(b"secret")
    listing = json.loads((store / "parts/00000/files.json").read_text())
    forge_part(store, listing={**listing, name: {"bytes": 6, "sha256": "0" * 64}})
    assert "leads out" in refuse(store, CacheCorruptError)


@pytest.mark.parametrize("target", ["points/c/0/0", "zarr.json", "points", "files.json"])
def test_links_are_not_followed(store: Path, tmp_path: Path, target: str) -> None:
    path = store / "parts/00000" / target
    moved = tmp_path / "elsewhere"
    path.rename(moved)
    path.symlink_to(moved)
    refuse(store, CacheCorruptError)


def test_a_pipe_in_place_of_a_file_keeps_nobody_waiting(store: Path) -> None:
    path = store / "parts/00000/points/c/0/0"
    path.unlink()
    os.mkfifo(path)
    refuse(store, CacheCorruptError)
    (store / "zarr.json").unlink()
    os.mkfifo(store / "zarr.json")
    refuse(store, CacheFormatError)


@pytest.mark.parametrize("array", ["points", "features", "point_offsets", "frame_tubelet", "boxes", "patch_slot"])
@pytest.mark.parametrize("rows", [2**40, 2**61, 10**7])
def test_shapes_that_no_file_backs(store: Path, array: str, rows: int) -> None:
    def change(record: dict[str, Any]) -> None:
        chunk = record["codecs"][0]["configuration"]["chunk_shape"][0]
        record["shape"][0] = rows
        record["chunk_grid"]["configuration"]["chunk_shape"][0] = -(-rows // chunk) * chunk

    edit_json(store / "parts/00000" / array / "zarr.json", change)
    counts = {"points": "num_points", "patch_slot": "num_points", "features": "num_rows", "frame_tubelet": "num_frames"}
    forge_part(store, **({counts[array]: rows} if array in counts else {}))
    refuse(store)


def test_sequences_of_more_frames_than_there_are(store: Path) -> None:
    for frames in (2**40, 2**47):
        edit_json(
            store / "parts/00000/zarr.json",
            lambda record, frames=frames: record["attributes"]["cross4d_part"]["sequences"]["num_frames"].__setitem__(0, frames),
        )
        forge_part(store, num_frames=frames + 3)
        refuse(store)


@pytest.mark.parametrize("column", ["id", "num_frames", "action", "subject", "camera", "splits"])
@pytest.mark.parametrize("value", HOSTILE)
def test_tables_of_sequences(store: Path, column: str, value: Any) -> None:
    right = (column, value) in (("id", "x"), ("id", "9" * 5000), ("splits", {}), ("action", -1), ("subject", -1), ("camera", -1))
    edit_json(
        store / "parts/00000/zarr.json",
        lambda record: record["attributes"]["cross4d_part"]["sequences"][column].__setitem__(0, value),
    )
    forge_part(store)
    if right:
        use(store)
    else:
        refuse(store)


@pytest.mark.parametrize("hashes", [{}, {"points": []}, {"points": ["0" * 64] * 2}, {"points": ["x"]}, {"points": None}, [], "x"])
def test_lists_of_chunks(store: Path, hashes: Any) -> None:
    (store / "parts/00000/chunks.json").write_text(json.dumps(hashes))
    forge_part(store)
    if hashes == {}:
        use(store)  # as of stores that have none
    else:
        refuse(store, CacheCorruptError)


@pytest.mark.parametrize("damage", ["{", "[]", "{}", "null", '{"manifest":1,"files":2,"sequences":3,"checksum":4}', "[" * 10**5])
def test_an_index_that_is_none(store: Path, damage: str) -> None:
    (store / "index.json").write_text(damage)
    assert "index" in refuse(store, CacheCorruptError)


def test_an_index_that_contradicts_a_part(store: Path) -> None:
    manifest = CacheManifest.read(store)
    sequences = [info for part in two_parts() for info in part.sequences]
    write_index(store, manifest, [sequences[1], sequences[0], sequences[2]])
    cache = open_cache(store)
    with pytest.raises(CacheCorruptError, match=r"contradicts"):
        cache.read_clip(0, np.arange(1))


def test_an_index_of_another_list_of_parts_counts_for_nothing(store: Path) -> None:
    write_index(store, make_manifest(two_parts()), [])
    assert len(open_cache(store).sequences) == 3


def zipped(store: Path, path: Path) -> bytes:
    list(Pack(open_cache(store), path).run())
    return path.read_bytes()


def damage_zip(whole: bytes, rng: np.random.Generator) -> bytes:
    """One to four damages, most of them in the directory, which is what a reader believes."""
    directory, damaged = whole.index(b"PK\x01\x02"), bytearray(whole)
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.integers(directory if rng.random() < 0.8 else 0, len(whole)))
        kind, length = rng.choice(["flip", "zero", "ones", "cut", "insert"]), int(rng.integers(1, 50))
        if kind == "flip" and damaged:
            damaged[min(place, len(damaged) - 1)] ^= 1 << int(rng.integers(8))
        elif kind in ("zero", "ones"):
            damaged[place : place + 4] = (b"\x00" if kind == "zero" else b"\xff") * len(damaged[place : place + 4])
        elif kind == "cut":
            del damaged[place : place + length]
        else:
            damaged[place:place] = rng.bytes(length)
    return bytes(damaged)


def outcome_of_zip(data: bytes, path: Path, store: Path) -> str:
    """The true numbers, or one of our errors; anything else raises."""
    path.write_bytes(data)
    try:
        found = read_all(path)
    except CacheError as error:
        return type(error).__name__
    assert found == read_all(store)
    return "read"


WORDS = [
    b"null",
    b"NaN",
    b"1e999",
    b"-0",
    b'"\\ud800"',
    b"{}",
    b"[]",
    b'"parts"',
    b"true",
    b"9" * 400,
    b'{"a":' * 50,
    b"",
    b"\x00",
    b"\xff",
]


def damage_manifest(text: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes replaced by others, or by words that JSON readers stumble over."""
    start = int(rng.integers(len(text)))
    stop = start + int(rng.integers(30))
    middle = rng.bytes(int(rng.integers(10))) if rng.random() < 0.5 else WORDS[rng.integers(len(WORDS))]
    return text[:start] + middle + text[stop:]


def outcome_of_manifest(text: bytes, folder: Path, store: Path) -> str:
    """The true manifest, or one of our errors; anything else raises."""
    (folder / "zarr.json").write_bytes(text)
    try:
        manifest = CacheManifest.read(folder)
    except CacheFormatError:
        return "CacheFormatError"
    assert manifest == CacheManifest.read(store)
    return "read"


SEEDS = st.integers(0, 2**63)
FUZZ = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(seed=SEEDS)
def test_damaged_zips_are_read_rightly_or_refused(archive: Path, pristine: Path, tmp_path: Path, seed: int) -> None:
    outcome_of_zip(damage_zip(archive.read_bytes(), np.random.default_rng(seed)), tmp_path / "store.zip", pristine)


@FUZZ
@given(seed=SEEDS)
def test_damaged_manifests_are_read_rightly_or_refused(pristine: Path, tmp_path: Path, seed: int) -> None:
    outcome_of_manifest(damage_manifest((pristine / "zarr.json").read_bytes(), np.random.default_rng(seed)), tmp_path, pristine)


@pytest.fixture(scope="module")
def archive(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zip") / "store.zip"
    zipped(pristine, path)
    return path


def test_verify_reports_every_flipped_bit_and_every_truncation_of_every_file(store: Path) -> None:
    """A few for each file here; the soak does a thousand."""
    check_damage(store, per_file=1, seed=0)


def check_damage(store: Path, *, per_file: int, seed: int) -> dict[str, int]:
    """Flip bits and cut files, one at a time: `verify` reports each, and readers never give wrong numbers. Counts of both."""
    truth = read_all(store)
    rng, counts = np.random.default_rng(seed), {"flips": 0, "truncations": 0, "refused by readers": 0}
    for path in sorted(path for path in store.rglob("*") if path.is_file()):
        intact = path.read_bytes()
        for _ in range(per_file):
            damaged = bytearray(intact)
            if rng.random() < 0.7 or len(intact) < 2:
                bit = int(rng.integers(8 * len(intact)))
                damaged[bit // 8] ^= 1 << bit % 8
                counts["flips"] += 1
            else:
                del damaged[int(rng.integers(len(intact))) :]
                counts["truncations"] += 1
            path.write_bytes(damaged)
            assert is_reported(store), f"{path}: not reported"
            try:
                assert read_all(store) == truth, f"{path}: wrong numbers"
            except CacheError as error:
                counts["refused by readers"] += 1
                where, *rest = path.relative_to(store).parts
                named = isinstance(error, CacheCorruptError) and str(rest[0] if rest else "") in str(error)
                assert named or where != "parts", f"{path}: {error}"  # noqa: PT017
            path.write_bytes(intact)
    assert read_all(store) == truth
    return counts


def is_reported(store: Path) -> bool:
    try:
        return any(check.problems for check in verify(open_cache(store)))
    except CacheFormatError:
        return True


def read_all(store: Path) -> list[Any]:
    """Everything that can be read of a store, as bytes."""
    cache, found = open_cache(store), []
    for index, info in enumerate(cache.sequences):
        clip = vars(cache.read_clip(index, np.arange(info.num_frames), labels=True))
        found += [value.tobytes() if isinstance(value, np.ndarray) else value for value in clip.values()]
        for frame in range(info.num_frames):
            found += [array.tobytes() for camera in cache.cameras(index, frame) for array in (camera.intrinsics, camera.world_to_camera)]
    matrix = cache.projection()
    return [*found, None if matrix is None else matrix.tobytes()]


def test_a_zip_in_a_zip_or_of_something_else(tmp_path: Path, pristine: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refuse(tmp_path / "other.zip", CacheFormatError)
    (tmp_path / "text.zip").write_text("hello")
    refuse(tmp_path / "text.zip", CacheFormatError)
    (tmp_path / "empty.zip").write_bytes(b"")
    refuse(tmp_path / "empty.zip", CacheFormatError)


def hole(path: Path, size: int = 2**40) -> None:
    """A file of which nothing is on the disk."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


@pytest.mark.parametrize("name", ["boxes/c/0/0/0", "zarr.json", "chunks.json", "points/zarr.json"])
def test_tables_larger_than_any_are_not_read(store: Path, name: str) -> None:
    hole(store / "parts/00000" / name)
    listing = json.loads((store / "parts/00000/files.json").read_text())
    forge_part(store, listing={**listing, name: {"bytes": 2**40, "sha256": "0" * 64}})
    refuse(store, CacheCorruptError)


def test_an_index_of_chunks_larger_than_any_is_not_read(store: Path) -> None:
    rows = 2**38

    def change(record: dict[str, Any]) -> None:
        record["shape"][0] = record["chunk_grid"]["configuration"]["chunk_shape"][0] = rows
        record["codecs"][0]["configuration"]["chunk_shape"][0] = 1

    edit_json(store / "parts/00000/points/zarr.json", change)
    edit_json(store / "parts/00000/patch_slot/zarr.json", change)
    listing = json.loads((store / "parts/00000/files.json").read_text())
    for name in ("points/c/0/0", "patch_slot/c/0/0"):
        hole(store / "parts/00000" / name, 2**43)
        listing[name] = {"bytes": 2**43, "sha256": "0" * 64}
    for name in ("points/zarr.json", "patch_slot/zarr.json"):
        data = (store / "parts/00000" / name).read_bytes()
        listing[name] = {"bytes": len(data), "sha256": sha256_bytes(data)}
    forge_part(store, listing=listing, num_points=rows)
    refuse(store, CacheCorruptError)


def test_a_directory_of_a_zip_larger_than_any_is_not_read(tmp_path: Path) -> None:
    size = 2**39
    hole(tmp_path / "store.zip", size)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, size, 1)
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, size, 0)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    with (tmp_path / "store.zip").open("ab") as file:
        file.write(record + locator + end)
    assert "a directory of" in refuse(tmp_path / "store.zip", CacheFormatError)


@pytest.mark.parametrize("data_type", ["(,)f4", "f4", ">f4", "object", "U9", "complex64", 4, None, ["float32"], {"name": "float32"}])
def test_types_of_arrays(store: Path, data_type: object) -> None:
    edit_json(store / "parts/00000/points/zarr.json", lambda record: record.update(data_type=data_type))
    forge_part(store)
    refuse(store, CacheCorruptError)


def test_parts_are_numbered(store: Path) -> None:
    edit_manifest(store, lambda record: record["parts"].__setitem__(1, record["parts"][0]))
    assert "numbered" in refuse(store, CacheFormatError)
    edit_manifest(store, lambda record: record["parts"][1].update(name="00007"))
    assert "numbered" in refuse(store, CacheFormatError)


def test_tubelets_never_fall(store: Path) -> None:
    path = store / "parts/00000/frame_tubelet"
    zarr.open_array(path, mode="r+")[:2] = [1, 0]
    forge_part(store)
    refuse(store, CacheCorruptError)


@pytest.mark.parametrize("what", ["pipe", "link", "hole"])
def test_unfinished_stores_are_trusted_no_more(store: Path, tmp_path: Path, what: str) -> None:
    edit_manifest(store, lambda record: record.update(complete=False, parts=[]))
    assert len(open_cache(store, allow_partial=True).manifest.parts) == 2
    path = store / "parts/00000/zarr.json"
    if what == "hole":
        hole(path)
    else:
        path.rename(tmp_path / "elsewhere")
        os.mkfifo(path) if what == "pipe" else path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CacheCorruptError, match="cannot be read"):
        open_cache(store, allow_partial=True)


def test_verify_compares_the_index_with_the_parts(store: Path) -> None:
    manifest = CacheManifest.read(store)
    sequences = [info for part in two_parts() for info in part.sequences]
    write_index(store, manifest, [sequences[0].model_copy(update={"action": 3}), *sequences[1:]])
    [[name, problems]] = [(check.name, check.problems) for check in verify(open_cache(store)) if check.problems]
    assert name == "index.json"
    assert "contradicts part 00000" in problems[0]
