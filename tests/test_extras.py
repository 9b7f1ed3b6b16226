"""Without the extras: what they bring cannot be imported, everything else works, and one message names the extra."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BLOCKED = ("open3d", "s3fs")
EVERYTHING = """
import pkgutil, sys
from importlib import import_module
for package in map(import_module, ("cross4d_cache", "cross4d_train")):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        import_module(module.name)
from cross4d_cache.cli import app as cache_app
from cross4d_train.cli.app import app as train_app
from cross4d_cache.errors import user_errors
few = ["--option", "num_humans=1", "--option", "num_animals=0", "--option", "min_frames=4", "--option", "max_frames=4"]
cache_app(["build", "--out", "store.zarr", "--limit", "2", "--points", "64", *few], standalone_mode=False)
small = ["--size", "tiny", "--frames", "3", "--points", "48", "--split", "all", "--epochs", "1", "--workers", "1", "--device", "cpu"]
train_app(["pretrain", "--cache", "store.zarr", "--out", "run", *small], standalone_mode=False)
cache_app(["info", "store.zarr", "--fidelity"], standalone_mode=False)
"""


@pytest.fixture
def blocked(tmp_path: Path) -> dict[str, str]:
    """An environment in which Python, and every process that it starts, lacks the extras."""
    folder = tmp_path / "blocked"
    folder.mkdir()
    for name in BLOCKED:
        (folder / f"{name}.py").write_text(f"raise ImportError('no {name} here')")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}


def run(code: list[str], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *code], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)


def test_everything_else_imports_builds_trains_and_measures(blocked: dict[str, str], tmp_path: Path) -> None:
    ended = run(["-c", EVERYTHING], blocked, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
    assert (
        "not measured: Open3D, which casts rays at meshes, cannot be imported: no open3d here; pip install 'cross4d[mesh]'" in ended.stdout
    )


def test_a_pipeline_that_needs_meshes_names_the_extra(blocked: dict[str, str], tmp_path: Path) -> None:
    ended = run(["-m", "pipelines.benchmarks.readers", "--only", "folder ply"], blocked, tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("error: Open3D, which casts rays at meshes, cannot be imported: no open3d here\n")
    assert "next: pip install 'cross4d[mesh]'" in ended.stderr
    assert "Traceback" not in ended.stderr
