"""The benchmark of repetition: what it trains, and what it makes of two runs."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pipelines.benchmarks import repeat
from pipelines.benchmarks import step as benchmark_step
from tests.pipelines.benchmarks.conftest import Child


def test_losses_count_until_the_first_that_differs() -> None:
    runs = [{"losses": [1.0, 2.0, 3.0, 4.0], "clips_per_second": 5.0}, {"losses": [1.0, 2.0, 3.5, 4.0], "clips_per_second": 6.0}]
    assert repeat.row("point4d", False, runs) == {
        "encoder": "point4d", "deterministic": False, "steps": 4, "equal_losses": 2, "clips_per_second": 6.0,
    }  # fmt: skip
    assert repeat.row("point4d", True, runs[:1] * 2)["equal_losses"] == 4
    assert "as it is: the first 2 of 4 losses twice, 6 clips/s" in repeat.describe([repeat.row("point4d", False, runs)])


def test_every_setting_is_trained_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child_of: Callable[[ModuleType], Child]) -> None:
    trained, whole = [], repeat.Pretraining

    class Watched(whole):  # type: ignore[misc, valid-type]
        def __init__(self, store, settings, fabric, **others) -> None:  # type: ignore[no-untyped-def]
            trained.append(settings.training.deterministic)
            super().__init__(store, settings, fabric, **others)

    monkeypatch.setattr(benchmark_step, "SEQUENCES", 2)
    monkeypatch.setattr(repeat, "Pretraining", Watched)
    monkeypatch.setattr(repeat, "in_a_process", child_of(repeat))
    out = tmp_path / "report.json"
    words = ["--encoders", "point4d", "--size", "tiny", "--batch", "4", "--frames", "4", "--points", "64", "--steps", "2"]
    monkeypatch.setattr(sys, "argv", ["repeat", *words, "--device", "cpu", "--json", str(out)])
    repeat.main()
    assert trained == [False, False, True, True]
    rows = json.loads(out.read_text())["rows"]
    assert [(found["deterministic"], found["steps"], found["equal_losses"]) for found in rows] == [(False, 4, 4), (True, 4, 4)]
