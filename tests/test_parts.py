"""A package outside of the tree, that of the pages on adding a part: built, installed, and used like what is built in."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import cross4d_train
from cross4d_cache.cli import app as cache_app
from cross4d_cache.datasets import DATASETS
from cross4d_cache.errors import SettingsError
from cross4d_cache.store import open_cache
from cross4d_cache.teachers import TEACHERS
from cross4d_train.checkpoint import CHECKPOINT_FILE
from cross4d_train.cli.app import app as train_app
from cross4d_train.encoders import ENCODERS
from cross4d_train.objectives import OBJECTIVES
from tests.test_docs import ROOT, blocks

pytestmark = pytest.mark.skipif(ROOT is None, reason="no folder above the tests holds docs/; run them inside the repository")

PAGES = {
    "reader": "adding_a_dataset.md",
    "brightness": "adding_a_teacher.md",
    "encoder": "adding_an_encoder.md",
    "objective": "adding_an_objective.md",
}
SMALL = ["--frames", "4", "--points", "64", "--device", "cpu", "--quiet"]
BUILD = ["--image-size", "112", "--teacher-option", "patch_size=8", "--project", "none", "--quiet"]
TRAIN = ["--conditioning", "none", "--objective-option", "delta=0.5", "--epochs", "2", *SMALL]


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as its author has it: the first Python block of each page, and the project file of the page on parts."""
    assert ROOT is not None
    folder = tmp_path_factory.mktemp("author")
    (folder / "lab").mkdir()
    for module, page in PAGES.items():
        (folder / "lab" / f"{module}.py").write_text(blocks(ROOT / "docs" / page, "python")[0])
    [project] = blocks(ROOT / "docs" / "parts.md", "toml")
    (folder / "pyproject.toml").write_text(project)
    return folder


@pytest.fixture(scope="module")
def installed(listing: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip installs of it."""
    target = tmp_path_factory.mktemp("site")
    sources = shutil.copytree(listing, tmp_path_factory.mktemp("sources") / "lab")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(sources)], check=True, timeout=300)
    return target


@pytest.fixture
def at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with scans: two actions, whose bodies move along different axes."""
    rng = np.random.default_rng(0)
    (tmp_path / "scans").mkdir()
    for number in range(8):
        name, axis = ("walk", 0) if number % 4 < 2 else ("jump", 2)
        frames = rng.normal([0, 3000, 0], [300, 200, 600], (6, 150, 3)).astype(np.float32)
        frames[:, :, axis] += 400 * np.arange(6, dtype=np.float32)[:, None]
        np.save(tmp_path / "scans" / f"{name}_{number}.npy", frames)
    monkeypatch.chdir(tmp_path)
    paths = list(sys.path)
    yield tmp_path
    sys.path[:] = paths
    for module in [name for name in sys.modules if name.partition(".")[0] == "lab"]:
        del sys.modules[module]
    for known in (DATASETS, TEACHERS, ENCODERS, OBJECTIVES):
        known._given.clear()  # type: ignore[attr-defined]


def run(*words: str) -> str:
    """What a command prints."""
    program, *rest = words
    result = CliRunner().invoke({"cross4d-cache": cache_app, "cross4d-train": train_app}[program], rest)
    if isinstance(result.exception, SettingsError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_an_encoder_takes_at_most_twelve_lines(listing: Path) -> None:
    lines = (listing / "lab" / "encoder.py").read_text().splitlines()
    [first] = [number for number, line in enumerate(lines) if line.startswith("class ")]
    assert len(list(filter(str.strip, lines[first:]))) <= 12


def test_the_package_passes_the_suites_that_ship(listing: Path, installed: Path, tmp_path: Path) -> None:
    """As its author runs them: in ten lines or so each, without the settings of this repository."""
    assert ROOT is not None
    tests = {name: next(code for code in blocks(ROOT / "docs" / page, "py") if "class Test" in code) for name, page in PAGES.items()}
    for name, code in tests.items():
        (tmp_path / f"test_{name}.py").write_text(code)
    places = [str(installed), *filter(None, sys.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    words = ["-q", "-p", "no:cacheprovider", "-p", "no:dash", "--rootdir", str(tmp_path), "--import-mode=importlib"]
    command = [sys.executable, "-m", "pytest", *words, str(tmp_path)]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout
    assert int(re.search(r"(\d+) passed", ended.stdout)[1]) > 60  # type: ignore[index]


def test_an_installed_package_builds_trains_is_evaluated_and_loads(installed: Path, at_work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(installed)
    run("cross4d-cache", "build", "--dataset", "npy_folder", "--data", "scans", "--teacher", "brightness", "--out", "s.zarr", *BUILD)
    manifest = open_cache("s.zarr").manifest
    assert (manifest.dataset.name, manifest.dataset.options["axes"], manifest.dataset.protocols) == ("npy_folder", "x,-z,y", ("odd-even",))
    assert (manifest.teacher.name, manifest.teacher.options, manifest.teacher.num_patches) == ("brightness", {"patch_size": 8}, 196)
    run("cross4d-train", "pretrain", "--cache", "s.zarr", "--encoder", "scatter", "--objective", "huber", "--out", "run", *TRAIN)
    settings = json.loads(Path("run/settings.json").read_text())
    assert settings["encoder"]["name"] == "scatter"
    assert settings["objective"]["options"] == {"delta": 0.5}
    found = json.loads(
        run("cross4d-train", "knn", "--checkpoint", f"run/{CHECKPOINT_FILE}", "--cache", "s.zarr", "--windows", "1", "--json", *SMALL)
    )
    assert found["encoder"] == {"name": "scatter", "size": "paper"}
    student = cross4d_train.load("run", device="cpu")
    features = student.features(open_cache("s.zarr").points(0))
    assert [frame.shape for frame in features] == [(150, 32)] * 6
    assert type(student.encoder).__module__ == "lab.encoder"


def test_classes_in_the_working_folder_do_the_same(listing: Path, installed: Path, at_work: Path) -> None:
    """Named as module:Class, each time again."""
    shutil.copytree(listing / "lab", "lab")
    parts = ["--dataset", "lab.reader:NpyFolder", "--data", "scans", "--teacher", "lab.brightness:Brightness"]
    run("cross4d-cache", "build", *parts, "--out", "s.zarr", *BUILD)
    assert open_cache("s.zarr").manifest.teacher.name == "lab.brightness:Brightness"
    names = ["--encoder", "lab.encoder:Scatter", "--objective", "lab.objective:Huber"]
    run("cross4d-train", "pretrain", "--cache", "s.zarr", *names, "--out", "run", *TRAIN)
    run("cross4d-train", "pretrain", "--cache", "s.zarr", *names, "--out", "run", *TRAIN)
    file = f"run/{CHECKPOINT_FILE}"
    for words in (["knn", "--windows", "1", *SMALL], ["encode", "--device", "cpu", "--out", "features", "--quiet"]):
        run("cross4d-train", words[0], "--checkpoint", file, "--encoder", "lab.encoder:Scatter", "--cache", "s.zarr", *words[1:])
    run("cross4d-train", "export", "run", "handed on", "--encoder", "lab.encoder:Scatter")
    student = cross4d_train.load("handed on", encoder="lab.encoder:Scatter", device="cpu")
    assert type(student.encoder).__module__ == "lab.encoder"
    words = ["--dataset", "lab.reader:NpyFolder", "--data", "scans", "--json", "--quiet"]
    assert json.loads(run("cross4d-cache", "info", "s.zarr", "--fidelity", *words))


def test_a_file_that_names_a_module_imports_nothing(listing: Path, at_work: Path) -> None:
    """In a process that was not given the classes, though the module lies where Python looks."""
    shutil.copytree(listing / "lab", "lab")
    names = {"encoder.name": "lab.encoder:Scatter", "objective.name": "lab.objective:Huber"}
    run(
        "cross4d-cache",
        "build",
        "--dataset",
        "lab.reader:NpyFolder",
        "--data",
        "scans",
        "--teacher",
        "position",
        "--out",
        "s.zarr",
        "--quiet",
    )
    words = ["--encoder", names["encoder.name"], "--objective", names["objective.name"]]
    run("cross4d-train", "pretrain", "--cache", "s.zarr", *words, "--out", "run", *TRAIN)
    for module in PAGES:
        path = Path("lab", f"{module}.py")
        path.write_text(f"from pathlib import Path\nPath('imported').touch()\n{path.read_text()}")
    code = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, "")
import cross4d_train
from cross4d_cache.build.build import build_store
from cross4d_cache.build.request import BuildRequest
from cross4d_cache.errors import SettingsError
from cross4d_cache.report.fidelity import measure_fidelity
from cross4d_cache.work import finish
from cross4d_train.encode import EncodeRequest, encode
from cross4d_train.evaluation.evaluate import EvaluationRequest, evaluate
from cross4d_train.pretrain import PretrainRequest, pretrain
from cross4d_train.resources import Resources
cpu = Resources(device="cpu")
def request(kind, **fields):
    return kind.from_json(json.dumps(fields))
checkpoint = "run/{CHECKPOINT_FILE}"
for work in (
    lambda: cross4d_train.load("run"),
    lambda: finish(encode(request(EncodeRequest, checkpoint="run", store="s.zarr", out="f"), cpu)),
    lambda: finish(encode(request(EncodeRequest, checkpoint="run", store="s.zarr", out="f", encoder="lab.encoder:Scatter"), cpu)),
    lambda: finish(evaluate(request(EvaluationRequest, evaluation="knn", checkpoint=checkpoint, store="s.zarr"), cpu)),
    lambda: finish(pretrain(request(PretrainRequest, store="s.zarr", out="run", resume=True), cpu)),
    lambda: finish(pretrain(request(PretrainRequest, store="s.zarr", out="other", options={json.dumps(names)}), cpu)),
    lambda: finish(pretrain(request(PretrainRequest, store="s.zarr", out="other", initial=checkpoint), cpu)),
    lambda: finish(build_store(request(BuildRequest, teacher={{"name": "lab.brightness:Brightness"}}), Path("t.zarr"))),
    lambda: finish(build_store(request(BuildRequest, dataset={{"name": "lab.reader:NpyFolder", "root": "scans"}}), Path("t.zarr"))),
):
    try:
        work()
    except SettingsError as error:
        print(str(error).splitlines()[0])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    told = ["encoder lab.encoder:Scatter"] * 4 + ["objective lab.objective:Huber"] * 2 + ["encoder lab.encoder:Scatter"]
    told += ["teacher lab.brightness:Brightness", "dataset lab.reader:NpyFolder"]
    assert [
        re.sub(" is not known here, and what is read from a file imports nothing", "", line) for line in ended.stdout.splitlines()
    ] == told
    assert not Path("imported").exists()
    assert importlib.util.find_spec("lab") is not None, "it lies where Python looks"
