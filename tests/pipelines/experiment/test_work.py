"""Pieces of work: stores that are derived from others."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cross4d_cache.cli import app as cache_app
from cross4d_cache.store import open_cache
from pipelines.experiment import work
from pipelines.experiment.work import Store, build

WORDS = ("--option", "num_humans=1", "--option", "num_animals=0", "--option", "min_frames=5", "--option", "max_frames=5")
WORDS = (*WORDS, "--limit", "2", "--points", "200", "--device", "cpu")


def run_here(command: str, *arguments: object) -> dict[str, object]:
    """As `pipelines.commands.run`, without a process for every store."""
    assert command == "cross4d-cache"
    done = CliRunner().invoke(cache_app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_control_is_derived_and_one_that_was_built_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "run", run_here)
    store = Store(path=tmp_path / "teacher.zarr", words=WORDS)
    control = store.shuffled("shuffled")
    assert control.path == tmp_path / "shuffled.zarr"
    assert control.needed == (store, control)
    before = Store(path=tmp_path / "before" / "shuffled.zarr", words=(*WORDS, "--correspondence", "shuffled"))
    for item in (store, control, before):
        build(item)
    assert open_cache(control.path).manifest == open_cache(before.path).manifest
    built = files(before.path)
    again = build(Store(path=before.path, of=store))
    assert files(before.path) == built
    assert again["correspondence"] == "shuffled"
