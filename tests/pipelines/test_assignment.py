"""The tables that ask what the correspondence of points and patches is worth."""

from pathlib import Path

import pytest

from cross4d_cache.errors import SettingsError
from pipelines.assignment import POSITION, REFERENCE, SHUFFLED, VARIANTS
from pipelines.msr_action3d import BENCHMARK
from pipelines.paper.recipe import make_setup

PATCHES = (3, 6)
"""Tables whose images have another number of patches: only teachers from a folder are known to have patches of 16 px."""


@pytest.mark.parametrize("number", VARIANTS)
def test_students_of_a_table_differ_in_one_thing(number: int, tmp_path: Path) -> None:
    setup = make_setup(BENCHMARK, "small", data=tmp_path, out=tmp_path, teachers=["hf=FOLDER"])
    table = VARIANTS[number](setup, ())
    assert table.number == number
    runs = {row: {cell.runs[0].model_dump_json() for cell in cells.values()} for row, cells in table.rows.items()}
    assert all(len(item) == 1 for item in runs.values())  # both columns from one evaluation
    assert len(set().union(*runs.values())) == len(table.rows)
    students = {row: cells["raw"].runs[0].student for row, cells in table.rows.items()}
    dense = [students[row] for row in (REFERENCE, SHUFFLED, POSITION) if row in students]
    alike = dense[:2] if number == 13 else dense  # patch indices have nothing beyond their means
    assert len({item.settings.model_dump_json() for item in alike if item.settings}) == 1
    stores = [item.store.path for item in dense if item.store]
    assert len(set(stores)) == len(dense)
    judged = {cells["raw"].runs[0].store.path for cells in table.rows.values()}
    assert judged == {setup.store().path}
    assert {cells["raw"].runs[0].options.get("pooling") for cells in table.rows.values()} == {"mean+max" if number == 9 else None}


@pytest.mark.parametrize("number", PATCHES)
def test_other_patches_need_a_teacher_that_has_them(number: int, tmp_path: Path) -> None:
    setup = make_setup(BENCHMARK, "small", data=tmp_path, out=tmp_path, teachers=["tiny"])
    with pytest.raises(SettingsError, match="patches of 16 px"):
        VARIANTS[number](setup, ())
