"""A report that cannot be written is told before the work, by everything that writes one in the end."""

import argparse
import importlib
import os
import sys
from pathlib import Path

import pytest

from pipelines.report_file import report_file

WRITERS = {
    "place": ["store"],
    "objectives": [],
    "semantics": [],
    "conditioning": ["--data", "x"],
    "benchmarks.step": [],
    "benchmarks.build": [],
    "benchmarks.sharing": [],
    "benchmarks.msr_visibility": ["x"],
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_report_that_cannot_be_written_is_told_at_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"pipelines.{name}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *WRITERS[name], "--json", str(tmp_path / "nowhere" / "report.json")])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 2
    assert "argument --json: cannot write" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert report_file("report.json") == Path("report.json")
    Path("report.json").touch()
    assert report_file("report.json") == Path("report.json")
    for wrong in (str(tmp_path), "https://host/report.json", "s3://bucket/report.json"):
        with pytest.raises(argparse.ArgumentTypeError):
            report_file(wrong)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(argparse.ArgumentTypeError):
        report_file("report.json")
