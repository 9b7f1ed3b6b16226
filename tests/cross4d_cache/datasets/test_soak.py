"""Damaged files of every form: each must read or be refused by name. `make soak` runs thousands of them; here it is a few of each."""

from pathlib import Path

import numpy as np
import pytest

from tests.cross4d_cache.datasets.examples.all_examples import EXAMPLES
from tests.cross4d_cache.datasets.examples.example import Example
from tests.cross4d_cache.datasets.mutation import mutate
from tests.cross4d_cache.datasets.soak import soak

MUTATIONS = 15


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_damaged_files_read_or_are_refused(example: Example) -> None:
    tally = soak(example, MUTATIONS, seed=1, seconds=60.0)  # a busy machine is no failure; `make soak` is strict
    assert tally.failures == []
    assert tally.outcomes.total() == MUTATIONS
    assert tally.outcomes["refused"] > 0


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_examples_and_their_damage_repeat(example: Example, tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        example.write(tmp_path / name)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append([(path.relative_to(tmp_path / name), path.read_bytes(), mutate(path, np.random.default_rng(3))) for path in files])
    assert [item[:2] for item in contents[0]] == [item[:2] for item in contents[1]]
    assert [item[2] for item in contents[0]] == [item[2] for item in contents[1]]
    assert any(before != after for _, before, after in contents[0])


def test_a_reader_that_misbehaves_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that dies, hangs, takes too much memory, or lets another error out."""
    for deed, outcome in (("os.abort()", "crash"), ("time.sleep(60)", "hang"), ("bytearray(2**31)", "raised"), ("1 / 0", "raised")):
        monkeypatch.setenv("CROSS4D_SOAK_MISCHIEF", deed)
        tally = soak(EXAMPLES[0], 1, seed=1, seconds=2.0)
        assert tally.outcomes == {outcome: 1}
        assert len(tally.failures) == 1
