"""The shape of the command line: what is offered, and that help does not wait for heavy libraries."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cross4d_cache.cli import app as cache_app
from cross4d_cache.cli.options import OPTIONS as CACHE_OPTIONS
from cross4d_cache.errors import SettingsError
from cross4d_train.cli.app import app as train_app
from cross4d_train.cli.options import OPTIONS as TRAIN_OPTIONS

EVALUATION = "cache checkpoint device encoder encoder-option frames json out points protocol quiet seed size stride workers"
OWN = {
    "probe": "epochs lr pooling windows",
    "knn": "neighbours pooling windows",
    "finetune": "epochs fraction lr test-every windows",
    "segment": "end-to-end epochs ignore lr windows",
    "segment-actions": "epochs lr",
    "robustness": "epochs lr pooling windows",
    "correspondence": "gap tolerance windows",
    "transfer": "epochs lr pooling windows",
}
COMMANDS = {
    "build": "batch-size camera camera-model correspondence data dataset device devices dry-run exclude image-mean image-size image-std "
    "json layer limit option out points precision project quiet seed shard teacher teacher-option views visibility weights window workers",
    "check-data": "data dataset json option points quiet read-all views",
    "derive": "STORE correspondence json out quiet",
    "encode": "cache checkpoint data device encoder exclude format json limit option out quiet stride",
    "encoders": "frames json points quiet",
    "export": "encoder json license notes out results run",
    "info": "STORE data dataset fidelity json option png quiet read-all",
    "merge": "json out quiet stores",
    "pack": "STORE json out quiet",
    "pull": "STORE json out quiet wait",
    "subset": "STORE action json out protocol quiet sequences split",
    "teachers": "json",
    "verify": "STORE json quiet",
    "pretrain": "augment batch-size cache clips-per-sequence conditioning deterministic device devices encoder encoder-option epochs "
    "frames init json keep logger lr nodes objective objective-option out points precision protocol quiet resume save-every seed size "
    "split stride variance-weight workers",
    **{name: " ".join(sorted([*EVALUATION.split(), *own.split()])) for name, own in OWN.items()},
}


def test_options_are_the_agreed_ones() -> None:
    """Change this list only together with the documentation."""
    found = {}
    for app in (cache_app, train_app):
        for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
            options = [option.opts[-1].removeprefix("--") for option in command.params]
            found[name] = " ".join(sorted(name.upper() if name == "store" else name for name in options))
    assert found == COMMANDS


NO_SETTINGS = {"--dry-run", "--fidelity", "--json", "--quiet", "--read-all", "--wait"}
"""Options that no request has: what a command does, and how it talks."""


@pytest.mark.parametrize(("app", "settings"), [(cache_app, CACHE_OPTIONS), (train_app, TRAIN_OPTIONS)])
def test_every_other_option_is_that_of_a_setting(app: typer.Typer, settings: dict[str, str]) -> None:
    """Stage two takes what it was given from that list: an option that is missing there would do nothing."""
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        options = {option.opts[-1] for option in command.params if option.opts[-1].startswith("--")}
        assert options <= {*settings.values(), *NO_SETTINGS}, name


ADDRESSED = {
    "build": "--out {}",
    "info": "STORE --png {}",
    "merge": "STORE {}",
    "subset": "STORE {}",
    "derive": "STORE {}",
    "pack": "STORE {}",
    "pull": "STORE {}",
    "pretrain": "--cache STORE --out {}",
    "encode": "--checkpoint FILE --cache STORE --out {}",
    "export": "RUN {}",
    **dict.fromkeys(OWN, "--checkpoint random --cache STORE --out {}"),
}


@pytest.mark.parametrize("address", ["s3://bucket/run", "https://host/store.zarr"])
def test_no_command_writes_to_an_address(address: str) -> None:
    """`Path` would make a folder `s3:` of it."""
    writing = set()
    for app in (cache_app, train_app):
        for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
            if {"out", "png"} & {option.name for option in command.params}:
                writing.add(name)
                result = CliRunner().invoke(app, [name, *ADDRESSED[name].format(address).split()])
                assert isinstance(result.exception, SettingsError), (name, result.output)
                assert f"cannot write to {address}" in str(result.exception)
    assert writing == set(ADDRESSED)


def test_quiet_commands_show_no_progress(small_store: Path, msr_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "0")

    def stderr(*words: object) -> str:
        result = CliRunner().invoke(cache_app, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result.stderr

    commands: list[tuple[object, ...]] = [
        ("build", "--dataset", "msr_action3d", "--data", msr_folder, "--limit", 1, "--project", "pca:8", "--out", tmp_path / "built"),
        ("check-data", "--dataset", "msr_action3d", "--data", msr_folder),
        ("info", small_store, "--fidelity"),
        ("verify", small_store),
        ("merge", small_store, tmp_path / "merged"),
        ("merge", small_store, tmp_path / "merged"),  # finished: it is checked
        ("subset", small_store, tmp_path / "subset", "--split", "train"),
        ("derive", small_store, tmp_path / "derived"),
        ("derive", small_store, tmp_path / "derived"),
        ("pack", small_store, tmp_path / "packed.zip"),
        ("pull", tmp_path / "packed.zip", tmp_path / "pulled"),
    ]
    for words in commands:
        assert not re.search(r"% .*\[\d\d:\d\d", stderr(*words, "--quiet")), words
    assert os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1", "downloads of weights"
    assert "verify: 100% " in stderr("verify", small_store)
    again = stderr(*commands[0])
    assert "device cpu" in again
    assert "build: 100% " in again


def test_defaults_need_no_download_and_no_control() -> None:
    options = typer.main.get_command(cache_app).commands["build"].params  # type: ignore[attr-defined]
    defaults = {option.name: option.default for option in options}
    assert (defaults["teacher"], defaults["weights"], defaults["correspondence"]) == ("tiny", None, "zbuffer")


@pytest.mark.parametrize("module", ["cross4d_cache.cli", "cross4d_train.cli.app"])
def test_help_needs_no_heavy_import(module: str) -> None:
    code = f"import sys, {module}; print(*({{'torch', 'zarr', 'numpy', 'transformers', 'open3d', 'pydantic'}} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []


def test_both_commands_are_installed() -> None:
    scripts = {script.name: script.value for script in entry_points(group="console_scripts") if script.name.startswith("cross4d")}
    assert scripts == {"cross4d-cache": "cross4d_cache.cli:main", "cross4d-train": "cross4d_train.cli.app:main"}


def test_info_of_a_store_as_json(small_store: Path) -> None:
    result = CliRunner().invoke(cache_app, ["info", str(small_store), "--json"])
    summary = json.loads(result.stdout)
    assert summary["state"] == "complete"
    assert summary["sequences"] > 0
    assert summary["correspondence"] == "zbuffer"
    assert 0 < summary["visible_share"] <= 1
    counts = (round(summary["frames"] * summary["points_per_frame"]), summary["visible_share"])
    assert summary["dense_bytes"] == pytest.approx(counts[0] * counts[1] * 16 * 2, rel=0.01), "of 100 points a frame, not of 2,048"


def test_verify_of_an_intact_store(small_store: Path) -> None:
    result = CliRunner().invoke(cache_app, ["verify", str(small_store), "--json"])
    assert json.loads(result.stdout)["intact"] is True
    assert result.exit_code == 0


def test_teachers_are_listed_without_loading_anything() -> None:
    code = "import sys; from cross4d_cache.cli import app; app(['teachers', '--json'], standalone_mode=False);"
    code += " assert not {'torch', 'transformers'} & set(sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    listed = {row["name"]: row for row in json.loads(result.stdout)}
    assert listed["dinov2-l"]["hub_id"] == "facebook/dinov2-large"
    assert {"tiny", "dinov3-s", "vjepa2-g-384", "videomae-b", "position"} <= listed.keys()
    table = CliRunner().invoke(cache_app, ["teachers"]).stdout.splitlines()
    assert len(table) == len(listed) + 1
    assert table[0].split()[:3] == ["name", "family", "parameters"]


@pytest.mark.parametrize("app", [cache_app, train_app])
def test_version_and_short_help(app: typer.Typer) -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"cross4d {version('cross4d')}\n"
    assert CliRunner().invoke(app, ["-h"]).stdout == CliRunner().invoke(app, ["--help"]).stdout != ""


@pytest.mark.parametrize("app", [cache_app, train_app])
def test_help_fits_80_columns_untruncated_and_ends_with_an_example(app: typer.Typer) -> None:
    for name in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "80"}).stdout
        assert "…" not in shown, name
        assert max(map(len, shown.splitlines())) <= 80
        assert f"cross4d-{'cache' if app is cache_app else 'train'} {name}" in shown.split("Examples:")[-1] or name in (
            "teachers",
            "encoders",
        )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["merge", "NEW", "STORE", "STORE"], "cross4d-cache merge STORE STORE NEW"),
        (["subset", "NEW", "STORE", "--split", "train"], "cross4d-cache subset STORE NEW"),
    ],
)
def test_the_order_of_release_01_is_refused_with_the_line_to_type(words: list[str], line: str, small_store: Path, tmp_path: Path) -> None:
    places = {"NEW": str(tmp_path / "new.zarr"), "STORE": str(small_store)}
    result = CliRunner().invoke(cache_app, [places.get(word, word) for word in words])
    assert isinstance(result.exception, SettingsError)
    assert result.exception.hint == " ".join(places.get(word, word) for word in line.split())
    assert not (tmp_path / "new.zarr").exists()
