"""What `cross4d-train` says of itself, on a terminal of 80 columns."""

import re
from importlib.metadata import version

import pytest
import typer

from cross4d_train.cli.app import EXAMPLES, app
from tests.cross4d_train.test_train_cli import run

COMMANDS = typer.main.get_command(app).commands


def test_the_version():
    assert run("--version").stdout == f"cross4d {version('cross4d')}\n"


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("rich", ["1", "0"])
def test_help_is_whole_on_80_columns(name, rich, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("typer.core.HAS_RICH", rich == "1")
    shown = run(name, "-h")
    assert shown.exit_code == 0
    assert run(name, "--help").stdout == shown.stdout
    assert "…" not in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    for example in EXAMPLES[name]:
        assert re.search(rf"^ +{re.escape(example)} *$", shown.stdout, re.MULTILINE), "on a line of its own"


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_in_groups_and_examples_name_options_that_exist(name):
    command = COMMANDS[name]
    assert all(option.rich_help_panel for option in command.params)
    known = {option for parameter in command.params for option in parameter.opts}
    assert 1 <= len(EXAMPLES[name]) <= 2
    for example in EXAMPLES[name]:
        program, called, *words = example.split()
        assert (program, called) == ("cross4d-train", name)
        assert {word for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["prob"], "Did you mean 'probe'?"),
        (["probe", "--ckeckpoint", "random"], "--checkpoint"),
        (["pretrain", "--cache", "STORE", "--encoder", "piont4d"], "did you mean point4d? choose one with --encoder"),
        (["pretrain", "--cache", "STORE", "--objective", "densee"], "did you mean dense? choose one with --objective"),
        (["pretrain", "--cache", "STORE", "--size", "papr"], "did you mean paper?"),
        (["pretrain", "--cache", "STORE", "--logger", "tensorbord"], "did you mean tensorboard?"),
    ],
)
def test_what_was_probably_meant(words, meant, store, tmp_path):
    answered = run(*(store if word == "STORE" else word for word in words), *(["--out", tmp_path / "run"] if "STORE" in words else []))
    assert answered.exit_code == 2
    assert meant in answered.stderr


def test_shells_complete_the_command():
    assert {"install_completion", "show_completion"} <= {option.name for option in typer.main.get_command(app).params}
