"""Weights by hub id, from a hub cache that stands in for the network."""

import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import filter_repo_objects
from typer.testing import CliRunner

from cross4d_cache.catalogue import CATALOGUE
from cross4d_cache.cli import app
from cross4d_cache.errors import TeacherError
from cross4d_cache.store import CacheManifest
from cross4d_cache.teachers import load_teacher

HUB_ID, REVISION = str(CATALOGUE["vjepa2-l"].hub_id), str(CATALOGUE["vjepa2-l"].revision)
MAIN = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tiny_vjepa2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that holds the published V-JEPA 2 L under its id (with tiny weights), a later commit on main, and no network."""
    repository = tmp_path / "hub" / ("models--" + HUB_ID.replace("/", "--"))
    for commit in (REVISION, MAIN):
        shutil.copytree(tiny_vjepa2, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(MAIN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return repository


def test_published_weights_are_found_by_the_teachers_name(hub: Path) -> None:
    spec = load_teacher("vjepa2").spec
    assert (spec.name, spec.weights, spec.revision) == ("vjepa2-l", HUB_ID, REVISION)


@pytest.mark.parametrize(("suffix", "commit"), [("", MAIN), ("@main", MAIN), (f"@{REVISION}", REVISION), (f"@{MAIN}", MAIN)])
def test_a_revision_may_be_pinned(hub: Path, suffix: str, commit: str) -> None:
    spec = load_teacher("vjepa2", HUB_ID + suffix).spec
    assert (spec.weights, spec.revision) == (HUB_ID, commit)


@pytest.mark.parametrize("weights", [f"{HUB_ID}@v9", "facebook/dinov9", "a/b@c@d"])
def test_what_the_hub_does_not_have_is_refused(hub: Path, weights: str) -> None:
    with pytest.raises(TeacherError, match="cannot be fetched") as error:
        load_teacher("vjepa2", weights)
    assert "`teacher.weights`" in str(error.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (GatedRepoError, ["are gated", f"accept the licence on https://huggingface.co/{HUB_ID}", "`hf auth login`", "checkpoint file"]),
        (RepositoryNotFoundError, [f"has no {HUB_ID}, or a private one", "check the id"]),
    ],
)
def test_what_the_hub_refuses_says_how_to_get_it(error: type[HfHubHTTPError], words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> str:
        raise error("403 Client Error", response=Mock())

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(TeacherError) as refused:
        load_teacher("vjepa2", HUB_ID)
    assert all(word in str(refused.value) for word in words)


def test_shards_on_the_hub_are_fetched_and_code_is_not(monkeypatch: pytest.MonkeyPatch, tiny_vjepa2: Path) -> None:
    asked = {}
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda _id, **options: asked.update(options) or str(tiny_vjepa2))
    load_teacher("vjepa2", HUB_ID)
    names = ["config.json", "model.safetensors", "model.safetensors.index.json", "model-00001-of-00002.safetensors"]
    found = list(
        filter_repo_objects([*names, "modeling.py", "pytorch_model.bin", "onnx/model.onnx"], allow_patterns=asked["allow_patterns"])
    )
    assert found == names


def test_an_empty_revision_is_not_the_newest(hub: Path) -> None:
    with pytest.raises(TeacherError, match="names no revision"):
        load_teacher("vjepa2", f"{HUB_ID}@")


def test_build_works_as_the_readme_types_it(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cross4d-cache build --teacher vjepa2`, cut to two sequences."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["build", "--teacher", "vjepa2", "--limit", "2"])
    assert result.exit_code == 0, result.output
    manifest = CacheManifest.read(tmp_path / "store.zarr")
    assert (manifest.complete, manifest.dataset.name, manifest.teacher.window, manifest.teacher.tubelet) == (True, "synthetic", 16, 2)
