"""Which sequences a build takes, and which damage stands in its way."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.build.selection import select_sequences
from cross4d_cache.datasets import Dataset, open_dataset
from cross4d_cache.datasets.dataset import Listing
from cross4d_cache.errors import DatasetError, SettingsError

NAMES = [f"a0{number}_s01_e01" for number in range(1, 6)]


@pytest.fixture
def dataset(tmp_path: Path, write_msr: Callable[..., None]) -> Dataset:
    """Five recordings, of which the third is cut off."""
    for name in NAMES:
        write_msr(tmp_path / f"{name}_sdepth.bin", np.full((2, 4, 5), 400, np.uint32))
    damaged = tmp_path / f"{NAMES[2]}_sdepth.bin"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    return open_dataset("msr_action3d", tmp_path)


def chosen(dataset: Dataset, exclude: tuple[str, ...] = (), limit: int | None = None) -> list[str]:
    return [info.id for info in select_sequences(dataset, exclude=exclude, limit=limit)]


def test_damage_is_refused_and_the_way_out_is_told(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match=f"`exclude` {NAMES[2]}"):
        chosen(dataset)


def test_damage_that_is_excluded_or_comes_later_does_not_matter(dataset: Dataset) -> None:
    intact = [name for name in NAMES if name != NAMES[2]]
    assert chosen(dataset, exclude=(NAMES[2],)) == intact
    assert chosen(dataset, exclude=(NAMES[2], NAMES[0])) == intact[1:]
    assert chosen(dataset, limit=2) == NAMES[:2]
    with pytest.raises(DatasetError):
        chosen(dataset, limit=3)
    with pytest.raises(DatasetError):
        chosen(dataset, exclude=(NAMES[0],), limit=2)
    assert chosen(dataset, exclude=(NAMES[2],), limit=3) == intact[:3]


def test_ids_that_do_not_exist_and_nothing_left_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a09_s01_e01"):
        chosen(dataset, exclude=("a09_s01_e01",))
    with pytest.raises(SettingsError, match="no sequence is left"):
        chosen(dataset, exclude=tuple(NAMES))
    with pytest.raises(SettingsError, match=f"'A01_s01_e1' resembles '{NAMES[0]}'"):
        chosen(dataset, exclude=("A01_s01_e1",))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no"):
        chosen(open_dataset("msr_action3d", tmp_path / "empty"))


def test_two_sequences_of_one_id_are_refused(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = dataset.listing.sequences
    monkeypatch.setattr(dataset, "_listing", Listing((first, *others, first)))
    with pytest.raises(DatasetError, match=f"1 id of more than one sequence each: {NAMES[0]}"):
        chosen(dataset)
