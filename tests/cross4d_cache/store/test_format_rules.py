"""Rules of docs/cache_format.md that hashes do not keep: stores whose every hash fits and that break one, refused by whoever reads them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cross4d_cache.errors import CacheError
from cross4d_cache.sharing.pull import Pull
from cross4d_cache.store import CacheManifest, PartContents, open_cache, verify
from cross4d_cache.store.index import write_index
from cross4d_cache.store.storage.archive import is_plain_name
from tests.cross4d_cache.store.forgery import edit_json, edit_manifest, forge_part
from tests.cross4d_cache.store.store_examples import make_part, two_parts, use, write_store

Change = Callable[[Path], object]


def found_by_verify(store: Path) -> str:
    try:
        return "\n".join(problem for check in verify(open_cache(store)) for problem in check.problems)
    except CacheError as error:
        return str(error)


def of_manifest(**changes: Any) -> Change:
    """Other settings, with a fingerprint and a checksum that fit."""

    def change(store: Path) -> None:
        manifest = CacheManifest.read(store)
        inner = {name: getattr(manifest, name).model_copy(update=value) for name, value in changes.items()}
        manifest.model_copy(update=inner).write(store)

    return change


def of_attributes(**changes: Any) -> Change:
    """Other attributes of the first part, in its list of files and in the manifest."""

    def change(store: Path) -> None:
        edit_json(store / "parts/00000/zarr.json", lambda record: record["attributes"]["cross4d_part"].update(changes))
        forge_part(store)

    return change


def of_sequences(column: str, values: list[Any]) -> Change:
    def change(store: Path) -> None:
        edit_json(
            store / "parts/00000/zarr.json",
            lambda record: record["attributes"]["cross4d_part"]["sequences"].update({column: values}),
        )
        forge_part(store)

    return change


def of_arrays(name: str, place: tuple[int, ...], value: float) -> Change:
    """A store of which one number of one table is another."""

    def change(store: Path) -> None:
        part: PartContents = two_parts()[0]
        values = getattr(part, name).copy()
        values[place] = value
        other = write_store(store.with_name("forged"), [replace(part, **{name: values}), two_parts()[1]])
        store.rename(store.with_name("old"))
        other.rename(store)

    return change


def without(*names: str) -> Change:
    """A part whose list of files lacks some."""

    def change(store: Path) -> None:
        for name in names:
            (store / "parts/00000" / name).unlink()
        forge_part(store)

    return change


def of_array(name: str, **changes: Any) -> Change:
    """Other metadata of an array."""

    def change(store: Path) -> None:
        edit_json(store / "parts/00000" / name / "zarr.json", lambda record: record.update(changes))
        forge_part(store)

    return change


def twice_in_two_parts(store: Path) -> None:
    edit_json(
        store / "parts/00001/zarr.json",
        lambda record: record["attributes"]["cross4d_part"]["sequences"].update(id=["sequence 1"]),
    )
    forge_part(store, 1)


def indexed(change: Change) -> Change:
    """The same, with an index that says the same."""

    def change_and_index(store: Path) -> None:
        first, second = two_parts()
        change(store)
        again = second.sequences[0].model_copy(update={"id": "sequence 1"})
        write_index(store, CacheManifest.read(store), [*first.sequences, again])

    return change_and_index


COUNTS = {"num_sequences": 2, "num_frames": 7, "num_points": 31, "num_visible": 0, "num_rows": 0}

RULES: dict[str, tuple[Change, str]] = {
    "no sequence id occurs twice in a part": (of_sequences("id", ["sequence 0"] * 2), "2 sequences have the id 'sequence 0'"),
    "no sequence id occurs twice in a store": (twice_in_two_parts, "2 sequences have the id 'sequence 1'"),
    "no sequence id occurs twice in an index": (indexed(twice_in_two_parts), "2 sequences have the id 'sequence 1'"),
    "a side is train or test": (of_sequences("splits", [{"all": "dev"}, {}]), "a side that is none of train, test"),
    "a part repeats the fingerprint": (of_attributes(fingerprint="0" * 64), "belongs to a store of other settings"),
    **{f"a part repeats {name}": (of_attributes(**{name: value + 1000}), f"its {name} contradicts") for name, value in COUNTS.items()},
    "corners are numbers": (of_arrays("boxes", (0, 0, 1), np.nan), "not finite"),
    "steps are numbers": (of_arrays("boxes", (1, 1, 0), np.inf), "not finite"),
    "steps are not negative": (of_arrays("boxes", (0, 1, 2), -1e-3), "a step below 0"),
    "intrinsics are numbers": (of_arrays("intrinsics", (0, 0, 0, 0), np.nan), "not finite"),
    "poses are numbers": (of_arrays("world_to_camera", (1, 1, 0, 3), -np.inf), "not finite"),
    "offsets begin with 0": (of_arrays("point_offsets", (0,), 1), "contradict one another"),
    "offsets never fall": (of_arrays("point_offsets", (2,), 1), "contradict one another"),
    "offsets end with the points": (of_arrays("point_offsets", (-1,), 99), "contradict one another"),
    "offsets end with the rows": (of_arrays("feature_offsets", (-1,), 99), "contradict one another"),
    "tubelets are within K": (of_arrays("frame_tubelet", (-1,), 99), "contradict one another"),
    "tubelets are not negative": (of_arrays("frame_tubelet", (0,), -1), "contradict one another"),
    "tubelets never fall": (of_arrays("frame_tubelet", (1,), 2), "contradict one another"),
    "arrays that are not optional are there": (without("features/zarr.json", "features/c/0/0"), "the array is missing"),
    "arrays with rows have a file": (without("features/c/0/0"), "the array has no chunks"),
    "tables have a file": (without("boxes/c/0/0/0"), "the array has no chunks"),
    "types are those of the table": (of_array("points", data_type="int16"), "does not fit the manifest"),
    "sizes add up to the record": (
        lambda store: edit_manifest(store, lambda record: record["parts"][0].update(bytes=record["parts"][0]["bytes"] + 1)),
        "the sizes of its files contradict the manifest",
    ),
    "an unfinished store lists no parts": (
        lambda store: edit_manifest(store, lambda record: record.update(complete=False)),
        "contradicts its plan",
    ),
    "parts add up to the plan": (of_manifest(plan={"num_frames": 11}), "contradicts its plan"),
    "parts are as many as the plan says": (of_manifest(plan={"num_parts": 3}), "contradicts its plan"),
    "features that are not projected have no matrix": (of_manifest(projection={"kind": "none"}), "projection none with a matrix"),
    "projected features have one": (of_manifest(projection={"sha256": None}), "projection random with a matrix of hash None"),
    "features that are not projected have the teacher's channels": (
        of_manifest(projection={"kind": "none", "sha256": None}),
        "8 channels, not projected, of which 5 are stored",
    ),
    "slots tell all patches apart": (of_manifest(render={"views": 4096}), "65536 patches of all views"),
}
"""Rules, a store that breaks each, and what is said of it."""


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_is_broken_is_noticed_by_every_reader(store: Path, tmp_path: Path, rule: str) -> None:
    change, message = RULES[rule]
    change(store)
    with pytest.raises(CacheError) as caught:
        use(store)
    assert message in str(caught.value)
    assert message in found_by_verify(store)


@pytest.mark.parametrize("rule", [rule for rule in RULES if "id occurs" in rule])
def test_a_pull_refuses_ids_that_occur_twice(store: Path, tmp_path: Path, rule: str) -> None:
    RULES[rule][0](store)
    with pytest.raises(CacheError, match="have the id"):
        list(Pull(store, tmp_path / "out").run())
    with pytest.raises(CacheError):
        open_cache(tmp_path / "out")


@pytest.mark.parametrize(("array", "place", "value"), [("feature_patch", (0,), 32), ("patch_slot", (0, 0), 65_534)])
def test_numbers_that_lead_nowhere_are_noticed_when_they_are_read(store: Path, array: str, place: tuple[int, ...], value: int) -> None:
    of_arrays(array, place, value)(store)
    with pytest.raises(CacheError, match=array):
        use(store)


def test_the_plan_is_of_the_sequences(store: Path) -> None:
    of_manifest(plan={"sha256": "0" * 64})(store)
    assert "the manifest's plan is of other sequences" in found_by_verify(store)


@pytest.mark.parametrize("letter", ["\x00", "\n", "\x1b", "\x7f", "\x85", "\x9b"])
def test_names_of_files_hold_no_control_character(letter: str) -> None:
    assert not is_plain_name(f"points/{letter}")


def test_what_the_table_forges_is_else_a_store(tmp_path: Path) -> None:
    """The forgers themselves change nothing that a rule does not speak of."""
    store = write_store(
        tmp_path / "store", [make_part([[5, 1, 7, 3], [2, 9, 4]], seed=1), make_part([[8, 6, 1, 1, 3]], seed=2, first_id=2)]
    )
    forge_part(store)
    of_manifest(plan={})(store)
    use(store)
    assert found_by_verify(store) == ""
