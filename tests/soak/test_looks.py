"""One round of every job; `python -m tests.soak` does a hundred."""

from pathlib import Path

from tests.cross4d_cache.store.store_examples import two_parts, write_store
from tests.soak.looks import JOBS, soak_looks


def test_strays_and_errors_of_reading_change_nothing(tmp_path: Path) -> None:
    found = soak_looks(write_store(tmp_path / "store.zarr", two_parts()), tmp_path, 1)
    assert found.rounds == len(JOBS)
    assert found.waited_out > 0
    assert found.told > 0
