"""Suites that ship are worth something only if a broken part falls by them: each check on a part that breaks just that promise."""

import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import pytest

Broken = tuple[str, str, dict[str, Any]]
"""The check that a part falls by, what it says, and the members of the test class that bring the part."""


def checks(*contracts: type) -> set[str]:
    return {name for contract in contracts for name in dir(contract) if name.startswith("test_")}


def falling(contract: type, cases: Mapping[str, Broken]) -> dict[str, type]:
    """A test class for each broken part, by name: it runs one check of the suite, and passes if that fails as it should."""
    return {f"Test{name}": _class(contract, *case) for name, case in cases.items()}


def _class(contract: type, check: str, message: str, members: Mapping[str, Any]) -> type:
    others = dict.fromkeys(checks(contract) - {check})
    return type(contract.__name__, (contract,), {**others, check: _expected(getattr(contract, check), message), **members})


def _expected(method: Callable[..., None], message: str) -> Callable[..., None]:
    @wraps(method)
    def check(*arguments: Any, **fixtures: Any) -> None:
        with pytest.raises(AssertionError, match=re.escape(message)):
            method(*arguments, **fixtures)

    return check


def fixture(name: str, value: Callable[[], Any]) -> dict[str, Any]:
    """The member of a test class that overrides a fixture."""

    def give(self: object) -> Any:
        return value()

    return {name: pytest.fixture(give)}
