"""What tests of benchmarks share."""

import json
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

Child = Callable[..., dict[str, Any]]


@pytest.fixture
def child_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[ModuleType], Child]:
    """What a benchmark's `in_a_process` gives, from this process."""

    def stand_in(benchmark: ModuleType) -> Child:
        def here(module: str, *request: object) -> dict[str, Any]:
            assert module == benchmark.__name__
            monkeypatch.setattr(sys, "argv", ["benchmark", "--child", json.dumps(request)])
            capsys.readouterr()
            benchmark.main()
            return dict(json.loads(capsys.readouterr().out))

        return here

    return stand_in
