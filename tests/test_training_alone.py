"""Who only trains from stores needs requirements-train.txt: with these packages, and what they bring, everything but building works."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cross4d_cache import open_cache
from pipelines.benchmarks.installs import brought_by, read_requirements

HERE = Path(__file__).resolve().parents
LISTED = next((folder / "requirements-train.txt" for folder in HERE if (folder / "requirements-train.txt").is_file()), None)
FOR_NOTEBOOKS = {"zarr"}
"""What nothing here imports, and stores open with."""
FOR_BUILDING = {"h5py", "huggingface-hub", "matplotlib", "pillow", "transformers"}

pytestmark = pytest.mark.skipif(LISTED is None, reason="no folder above the tests holds requirements-train.txt; run them in the repository")

STAGE_TWO = """
import pkgutil, sys
from importlib import import_module
import cross4d_cache.store, cross4d_cache.sharing, cross4d_train
for package in (cross4d_cache.store, cross4d_cache.sharing, cross4d_train):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.startswith("cross4d_train.testing"):
            import_module(module.name)
from cross4d_cache.cli import app as cache_app
from cross4d_train.cli.app import app as train_app
store = sys.argv[1]
def run(app, *words):
    print(*words)
    app(list(words), standalone_mode=False)
run(cache_app, "info", store)
run(cache_app, "verify", store)
run(cache_app, "pack", store, "store.zip")
run(train_app, "pretrain", "--cache", "store.zip", "--out", "run", "--size", "tiny", "--frames", "3", "--points", "48",
    "--epochs", "1", "--workers", "1", "--device", "cpu")
for evaluation, *words in (["probe", "--epochs", "2"], ["knn"], ["encode", "--out", "features"]):
    run(train_app, evaluation, "--checkpoint", "run/checkpoint.safetensors", "--cache", store, "--device", "cpu", *words)
student = cross4d_train.load("run")
points = next(iter(cross4d_train.StoreDataset(store, num_frames=3, num_points=48)))["points"]
print(tuple(student.features(points).shape))
print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


owners_by_name = cache(metadata.packages_distributions)  # reads the list of files of every distribution


def by_name(requirements: Iterable[Requirement]) -> dict[str, Requirement]:
    return {canonicalize_name(item.name): item for item in requirements}


def listed() -> dict[str, Requirement]:
    assert LISTED is not None
    return by_name(read_requirements(LISTED))


def declared() -> dict[str, Requirement]:
    return by_name(map(Requirement, tomllib.loads((HERE[1] / "pyproject.toml").read_text())["project"]["dependencies"]))


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """An environment in which Python, and every process that it starts, imports nothing installed but what the list brings."""
    there = brought_by(listed().values()) | {"cross4d"}
    folder = tmp_path / "blocked"
    folder.mkdir()
    for name, owners in owners_by_name().items():
        if name.isidentifier() and not there & set(map(canonicalize_name, owners)):
            (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name} here', name='{name}')")
    assert {f"{name}.py" for name in ("transformers", "h5py", "huggingface_hub", "matplotlib")} <= set(os.listdir(folder))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}


def run(code: list[str], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *code], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)


def test_the_list_is_what_the_package_declares_but_for_building() -> None:
    assert declared().keys() - listed().keys() == FOR_BUILDING | FOR_NOTEBOOKS
    assert listed().items() <= declared().items()


def test_stage_two_needs_the_list_and_all_of_it(alone: dict[str, str], small_store: Path, tmp_path: Path) -> None:
    ended = run(["-c", STAGE_TWO, str(small_store)], alone, tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "(3, 48, 32)" in ended.stdout
    loaded = set(ended.stdout.rpartition("LOADED ")[2].split())
    owners = {canonicalize_name(owner) for name in loaded for owner in owners_by_name().get(name, [])}
    assert listed().keys() <= owners


WORDS = {
    "transformers, which runs teachers": ["cross4d_cache.cli", "build", "--teacher", "dinov2", "--limit", "1", "--out", "new.zarr"],
    "matplotlib, which draws pictures": ["cross4d_cache.cli", "info", "{store}", "--png", "store.png"],
    "pytest, which runs the contract suites": ["cross4d_train.testing"],
}


@pytest.mark.parametrize("said", WORDS)
def test_what_is_missing_is_one_message_that_says_what_to_install(
    said: str, alone: dict[str, str], small_store: Path, tmp_path: Path
) -> None:
    module, *words = [word.format(store=small_store) for word in WORDS[said]]
    code = f"import sys; from cross4d_cache.errors import user_errors; sys.argv[1:] = {words}\nwith user_errors():\n    import {module}\n"
    ended = run(["-c", code + ("from cross4d_cache.cli import main; main()" if words else "")], alone, tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert re.fullmatch(rf"error: {said}, cannot be imported: no \w+ here\n  next: pip install '?cross4d.*\n", ended.stderr)


@pytest.mark.parametrize("teacher", ["tiny", "position", "none"])
def test_teachers_of_this_package_build_without_transformers(teacher: str, alone: dict[str, str], tmp_path: Path) -> None:
    words = ["build", "--dataset", "synthetic", "--teacher", teacher, "--limit", "1", "--device", "cpu", "--out", "new.zarr"]
    ended = run(["-c", "from cross4d_cache.cli import main; main()", *words], alone, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert open_cache(tmp_path / "new.zarr").manifest.teacher.name == teacher


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (
            "h5py, which reads HDF5 files",
            "from cross4d_cache.datasets.hoi4d.table import open_tables; open_tables(Path('train1.h5')).__enter__()",
        ),
        ("Pillow, which decodes PNG files", "from cross4d_cache.datasets.depth_image import read_png; read_png(Path('x.png'), 1, 1)"),
    ],
)
def test_readers_say_what_they_need(said: str, code: str, alone: dict[str, str], tmp_path: Path) -> None:
    """Pillow comes with tensorboard, so it is taken away here."""
    (tmp_path / "blocked" / "PIL.py").write_text("raise ModuleNotFoundError('no PIL here')")
    ended = run(
        ["-c", f"from pathlib import Path; from cross4d_cache.errors import user_errors\nwith user_errors(): {code}"], alone, tmp_path
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith(f"error: {said}, cannot be imported: no ")
