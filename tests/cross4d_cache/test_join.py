"""Two lists joined by name, against a slow reference, and what is said of names without a partner."""

import unicodedata

import numpy as np
import pytest

from cross4d_cache.errors import DatasetError
from cross4d_cache.join import join, look_alikes, resembling

E, DECOMPOSED = "\u00e9", "e\u0301"


def test_against_the_slow_reference() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        names = [f"{prefix}{number}" for prefix in ("a", E, DECOMPOSED) for number in range(4)]
        rows, ids = (list(rng.permutation(names)[: rng.integers(1, 12)]) for _ in range(2))
        found = join("list", rows, ids)
        same = [(row, name) for row in rows for name in ids if unicodedata.normalize("NFC", row) == unicodedata.normalize("NFC", name)]
        assert set(found.partners.items()) <= set(same)
        assert all(found.partners[row] == row for row in rows if row in ids)
        assert len(set(found.partners.values())) == len(found.partners)
        assert set(found.extra_rows) == set(rows) - set(found.partners)
        assert set(found.extra_sequences) == set(ids) - set(found.partners.values())
        left = [(row, name) for row, name in same if row in found.extra_rows and name in found.extra_sequences]
        assert left == [], "whoever could be joined is"


def test_nothing_is_said_where_all_belong_together() -> None:
    found = join("list", ["b", "a", DECOMPOSED], ["a", "b", E])
    found.check()
    assert list(found.lines()) == []


def test_only_a_list_that_speaks_of_nothing_here_is_refused() -> None:
    join("list", ["a", "b"], ["b"]).check()
    join("list", [], ["b"]).check()
    join("list", ["a"], []).check()
    with pytest.raises(DatasetError, match=r"(?s)list: none of its 7 rows names a sequence: 0, 1, 2, 3, 4, \.\.\. \(2 more\).*A.*move it"):
        join("list", map(str, range(7)), ["A"]).check()


def test_names_that_resemble_one_another() -> None:
    assert resembling(["1", "B7", "10", "x1", "s1t2"], ["001", "b07", "100", "x01", "x001", "S01T02"]) == {
        "1": "001",
        "B7": "b07",
        "s1t2": "S01T02",
    }, "100 is no 10, and of two it could be either"
    assert list(look_alikes(["walk", "run", "Walk", "run 02", "run 2"])) == [("walk", "Walk"), ("run 02", "run 2")]
