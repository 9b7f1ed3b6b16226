import pytest

from cross4d_cache.errors import SettingsError
from cross4d_cache.registry import look_up, suggestion

KNOWN = {"point4d": 1, "pstnet": 2}


def test_a_known_name_is_found() -> None:
    assert look_up(KNOWN, "pstnet", what="encoder", setting="encoder.name") == 2


def test_an_unknown_name_gets_the_known_ones_and_the_one_that_was_meant() -> None:
    with pytest.raises(SettingsError) as caught:
        look_up(KNOWN, "piont4d", what="encoder", setting="encoder.name")
    expected = "\n".join(
        [
            "unknown encoder 'piont4d'",
            "  expected: one of: point4d, pstnet",
            "  next: did you mean point4d? choose one with --encoder",
        ]
    )
    assert caught.value.with_options({"encoder.name": "--encoder"}) == expected


def test_nothing_is_suggested_where_nothing_is_alike() -> None:
    assert suggestion(KNOWN, "nonsense") == ""
    assert suggestion(["mini", "mine"], "min") == "did you mean mini or mine?"
