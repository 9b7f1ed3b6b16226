"""Weights by hub id, from a hub cache that stands in for the network."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cross4d_cache.cli import app
from cross4d_cache.store import CacheManifest
from cross4d_cache.teachers import load_teacher, vjepa2

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tiny_vjepa2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that holds the published V-JEPA 2 L under its id (with tiny weights), and no network."""
    repository = tmp_path / "hub" / ("models--" + vjepa2.HUB_IDS["vjepa2-l"].replace("/", "--"))
    shutil.copytree(tiny_vjepa2, repository / "snapshots" / REVISION)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return repository


def test_published_weights_are_found_by_the_teachers_name(hub: Path) -> None:
    spec = load_teacher("vjepa2").spec
    assert (spec.name, spec.weights, spec.revision) == ("vjepa2-l", vjepa2.HUB_IDS["vjepa2-l"], REVISION)


def test_build_works_as_the_readme_types_it(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cross4d-cache build --teacher vjepa2`, cut to two sequences."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["build", "--teacher", "vjepa2", "--limit", "2"])
    assert result.exit_code == 0, result.output
    manifest = CacheManifest.read(tmp_path / "store.zarr")
    assert (manifest.complete, manifest.dataset.name, manifest.teacher.window, manifest.teacher.tubelet) == (True, "synthetic", 16, 2)
