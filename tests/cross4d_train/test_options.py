"""Settings and options: the library names settings, and the command line alone knows what they are called there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import typer

import cross4d_train
from cross4d_train.cli.app import app
from cross4d_train.cli.options import OPTIONS, given_settings
from cross4d_train.evaluation.probe import ProbeSettings
from cross4d_train.settings import RunSettings

OF_OTHERS = re.compile(r"(torchrun|srun|sbatch|cross4d-cache [\w-]+)( --[\w=-]+| [A-Z]+)+")
"""Whole commands of other programs, as a user types them."""


def texts(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_the_library_names_no_option():
    root = Path(cross4d_train.__file__).parent
    modules = [path for path in root.rglob("*.py") if root / "cli" not in path.parents]
    assert len(modules) > 50
    found = [f"{path.name}:{line}" for path in modules for line, text in texts(path) if re.search(r"--[a-z]", OF_OTHERS.sub("", text))]
    assert found == []


def test_every_option_of_the_table_exists():
    commands = typer.main.get_command(app).commands.values()
    options = {name for command in commands for option in command.params for name in option.opts}
    assert set(OPTIONS.values()) <= options


def test_every_setting_that_a_message_names_has_an_option():
    """What stands in backquotes in an error or a remark, and has a dot, is a setting."""
    root = Path(cross4d_train.__file__).parent
    groups = {name.partition(".")[0] for name in OPTIONS if "." in name}
    named = {
        match[1]
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        for keyword in [*node.keywords, *node.args]
        for inner in ast.walk(keyword)
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
        for match in re.finditer(r"`([a-z][a-z_]*\.[a-z_.]+)`", inner.value)
    }
    assert len(named) > 10
    assert {name for name in named if name.partition(".")[0] in groups} <= set(OPTIONS)


def test_an_option_sets_what_the_settings_of_its_command_have():
    """`--epochs` is that of the head in a probe, and that of the run in pre-training; a seed of a probe is also that of its head."""
    values = {"epochs": 3, "seed": 1, "frames": None, "points": 8, "pooling": "mean", "fraction": [0.5], "quiet": True}
    assert given_settings(ProbeSettings, values) == {
        "clips.num_points": 8, "seed": 1, "pooling": "mean", "head.num_epochs": 3, "head.seed": 1,
    }  # fmt: skip
    assert given_settings(RunSettings, values) == {"clips.num_points": 8, "training.num_epochs": 3, "training.seed": 1}
