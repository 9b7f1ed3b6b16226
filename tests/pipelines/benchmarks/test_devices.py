"""The benchmark of devices: what it trains, and what it makes of a run on one and a run on several."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipelines.benchmarks import devices
from pipelines.benchmarks import step as benchmark_step
from tests.pipelines.benchmarks.conftest import Child


def test_differences_are_shares_of_the_loss_of_one() -> None:
    one = {"losses": [2.0, -4.0, 1.0], "clips_per_second": 5.0}
    several = {"losses": [2.0, -4.4, 1.05], "clips_per_second": 8.0}
    found = devices.row("dense", one, several)
    assert found["first_difference"] == 0
    assert found["largest_difference"] == pytest.approx(0.1)
    assert (found["steps"], found["first_loss"], found["last_loss"]) == (3, 2.0, 1.0)
    assert devices.describe([found]) == (
        "dense: loss 2 -> 1 in 3 steps; several differ by 0.0e+00 at first, by 1.0e-01 at most; 5 clips/s, together 8"
    )


def test_every_objective_is_trained_on_one_and_on_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child_of: Callable[[ModuleType], Child]
) -> None:
    asked = []

    child = child_of(devices)

    def on_one(module: str, store: str, objective: str, count: int, request: object) -> dict[str, Any]:
        asked.append((objective, count))
        return child(module, store, objective, 1, request)

    monkeypatch.setattr(benchmark_step, "SEQUENCES", 2)
    monkeypatch.setattr(devices, "in_a_process", on_one)
    out = tmp_path / "report.json"
    words = ["--objectives", "dense", "vicreg", "--size", "tiny", "--batch", "4", "--frames", "4", "--points", "64", "--steps", "4"]
    monkeypatch.setattr(sys, "argv", ["devices", *words, "--devices", "3", "--device", "cpu", "--json", str(out)])
    devices.main()
    assert asked == [("dense", 1), ("dense", 3), ("vicreg", 1), ("vicreg", 3)]
    report = json.loads(out.read_text())
    assert report["devices"] == 3
    assert [(found["objective"], found["steps"], found["largest_difference"]) for found in report["rows"]] == [
        ("dense", 4, 0.0),
        ("vicreg", 4, 0.0),
    ]
