"""Names come from other people's files: whatever they hold, they neither forge lines nor command a terminal."""

import json
from pathlib import Path

import pytest

from cross4d_cache import cli, console
from cross4d_cache.errors import CacheFormatError, printable, user_errors
from cross4d_cache.store import CacheWriter
from tests.cross4d_cache.store.store_examples import PROJECTION, make_manifest, two_parts

STRANGE = "a\nstate  complete\r\x1b[2J\x7f\x85\x9b\u2028\u2029\u202eb\u2066\udcff"
"""New lines of several kinds, terminal commands, deletion, text that runs backwards, and a byte that is no UTF-8."""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("häuser 1/2 'a' \\n 日本", "häuser 1/2 'a' \\n 日本"),
        ("a\nb", "a\\nb"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b\x7f\x85", "\\x9b\\x7f\\x85"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("a\u2028b", "a\\u2028b"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_cannot_be_printed_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


def is_plain(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def store_of(path: Path, name: str) -> Path:
    """A store that is called so in everything that has a name."""
    parts = two_parts()
    manifest = make_manifest(parts)
    dataset = manifest.dataset.model_copy(
        update={"name": name, "version": name, "options": {name: name}, "protocols": (name,), "action_names": (name, name)}
    )
    teacher = manifest.teacher.model_copy(update={"name": name, "weights": name})
    writer = CacheWriter(path, manifest.model_copy(update={"dataset": dataset, "teacher": teacher}), PROJECTION)
    for number, part in enumerate(parts):
        writer.commit(number, part)
    writer.finish()
    return path


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[str, str]:
    monkeypatch.setattr("sys.argv", ["cross4d-cache", *map(str, words)])
    with pytest.raises(SystemExit):
        cli.main()
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_names_forge_no_line_of_info(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    name = STRANGE.replace("\udcff", "")  # JSON of a store is UTF-8
    strange, plain = (said(monkeypatch, capsys, "info", store_of(tmp_path / kind, value)) for kind, value in (("a", name), ("b", "x")))
    for found, expected in zip(strange, plain, strict=True):
        assert is_plain(found)
        assert found.count("\n") == expected.count("\n")
    assert "dataset" in strange[0]
    assert "a\\nstate  complete\\r\\x1b[2J" in strange[0]
    out, _ = said(monkeypatch, capsys, "info", tmp_path / "a", "--json")
    assert is_plain(out)
    assert json.loads(out)["dataset"] == name


def test_names_forge_no_line_of_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), user_errors():
        raise CacheFormatError(f"sequence {STRANGE}", details=[STRANGE], expected=STRANGE, hint=STRANGE)
    lines = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)


def test_names_forge_no_line_of_what_training_says(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(STRANGE)
    console.show_json(make_manifest(two_parts()).dataset.model_copy(update={"name": STRANGE[:-1]}))
    captured = capsys.readouterr()
    assert captured.err.removesuffix("\n").isprintable()
    assert captured.out.removesuffix("\n").isprintable()
    assert json.loads(captured.out)["name"] == STRANGE[:-1]
