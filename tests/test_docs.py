"""The documentation says what is there: commands and options, links, and code that runs."""

import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from cross4d_cache.cli import app as cache_app
from cross4d_cache.store import open_cache
from cross4d_cache.store.digest import sha256_file
from cross4d_cache.store.part import LAYOUT
from cross4d_cache.teachers import TEACHERS, load_teacher
from cross4d_train.cli.app import app as train_app
from cross4d_train.feature_files import ply
from tests.cross4d_train.conftest import make_infos, write_store

APPS = {"cross4d-cache": cache_app, "cross4d-train": train_app}
ROOT = next((folder for folder in Path(__file__).resolve().parents if (folder / "docs").is_dir()), None)
"""The repository: tests also run from a copy inside it, and that copy may be taken elsewhere."""

pytestmark = pytest.mark.skipif(ROOT is None, reason="no folder above the tests holds docs/; run them inside the repository")


def pages() -> list[Path]:
    if ROOT is None:
        return []
    return [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT or page).as_posix()


each_page = pytest.mark.parametrize("page", pages(), ids=name_of)


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a language, also those indented inside a list."""
    return [match[2] for match in re.finditer(rf"^( *)```{language}\n(.*?)^\1```", page.read_text(), re.MULTILINE | re.DOTALL)]


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of each simple command: comments dropped, continued lines joined, pipes and lists cut."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if set(word) <= set("|&;<>()"):
                yield words
                words = []
            else:
                words.append(word)
        yield words


def problem_of(words: list[str]) -> str | None:
    """What is wrong with a command line, if it is one of ours."""
    program = Path(words[0]).name if words else ""
    if program not in APPS:
        return None
    commands: dict[str, Any] = typer.main.get_command(APPS[program]).commands  # type: ignore[attr-defined]
    if len(words) < 2 or words[1] not in {*commands, "-h", "--help", "--version"}:
        return f"{program} has no command {words[1:2]}"
    options = commands[words[1]].params if words[1] in commands else ()
    known = {"-h", "--help", *(name for option in options for name in (*option.opts, *option.secondary_opts))}
    unknown = [word for word in words[2:] if re.match(r"--?[a-z]", word) and word.split("=")[0] not in known]
    return f"{program} {words[1]} has no {', '.join(unknown)}" if unknown else None


@each_page
def test_commands_and_options_exist(page: Path) -> None:
    lines = [words for block in blocks(page, "sh") for words in command_lines(block)]
    assert [problem for words in lines if (problem := problem_of(words))] == []


@each_page
def test_pipelines_and_make_targets_exist(page: Path) -> None:
    assert ROOT is not None
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    lines = [words for block in blocks(page, "sh") for words in command_lines(block)]
    assert all(words[1] in targets for words in lines if words[:1] == ["make"])
    modules = [name.replace(".", "/") for name in re.findall(r"-m (pipelines\.[\w.]+\w)", page.read_text())]
    assert all((ROOT / f"{name}.py").is_file() for name in modules)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("cross4d-cache build --out a.zarr  # --no-such", None),
        (".venv/bin/cross4d-cache build --no-such 3", "--no-such"),
        ("X=1; cross4d-train pretrain --cache a.zarr --limit 3 | tee log", "--limit"),
        ("cross4d-train train --cache a.zarr", "no command"),
    ],
)
def test_wrong_lines_would_be_found(line: str, wrong: str | None) -> None:
    problems = [problem for words in command_lines(line) if (problem := problem_of(words))]
    assert len(problems) == (wrong is not None)
    assert all(str(wrong) in problem for problem in problems)


def test_readme_and_quickstart_show_commands() -> None:
    assert ROOT is not None
    for page in (ROOT / "README.md", ROOT / "docs" / "quickstart.md"):
        shown = {words[1] for block in blocks(page, "sh") for words in command_lines(block) if words and words[0] in APPS}
        assert {"build", "info", "verify", "pretrain", "probe"} <= shown, page


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path) if path else page
        assert found.exists(), f"{target}: no such file"
        assert not anchor or anchor in anchors(found), f"{target}: no such heading"


@each_page
def test_pages_hold_no_paths_of_one_machine(page: Path) -> None:
    assert re.findall(r"(?<![\w.~/])/(?:work|tmp|home|root|mnt|Users)\b\S*", page.read_text()) == []


def run_block(name: str, place: int = -1) -> dict[str, Any]:
    """The names that a Python block of a page defines, by default its last one."""
    assert ROOT is not None
    names: dict[str, Any] = {}
    exec(compile(blocks(ROOT / "docs" / name, "python")[place], name, "exec"), names)
    return names


def test_reader_of_the_format_page_reads_a_store(small_store: Path) -> None:
    reader, cache = run_block("cache_format.md"), open_cache(small_store)
    manifest = reader["read_manifest"](small_store)
    assert manifest["fingerprint"] == cache.manifest.fingerprint
    np.testing.assert_array_equal(reader["read_array"](small_store / "projection"), cache.projection())
    number = 0
    for record in manifest["parts"]:
        arrays, table = reader["read_part"](small_store, record)
        for sequence, num_frames in enumerate(table["num_frames"]):
            assert table["id"][sequence] == cache.sequences[number].id
            clip = cache.read_clip(number, np.arange(num_frames))
            found = [reader["read_frame"](arrays, table["num_frames"], sequence, frame) for frame in range(num_frames)]
            np.testing.assert_array_equal(np.concatenate([points for points, _ in found]), clip.points)
            targets = [row for _, rows in found for row in rows]
            assert [[target is None for target in row] for row in targets] == (clip.rows < 0).tolist()
            for rows, row in zip(clip.rows.tolist(), targets, strict=True):
                assert all(target is None or np.array_equal(clip.features[i], target) for i, target in zip(rows, row, strict=True))
            number += 1
    assert number == len(cache.sequences)


def test_format_page_lists_every_array_as_it_is_written() -> None:
    assert ROOT is not None
    rows = re.findall(r"^\| `(\w+)` \| \w+ \| [^|]+ \| ([\d,]+) \|", (ROOT / "docs" / "cache_format.md").read_text(), re.MULTILINE)
    assert {name: int(count.replace(",", "")) for name, count in rows} == {name: layout.chunk_rows for name, layout in LAYOUT.items()}


def test_example_of_a_dataset_reads(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    np.save(tmp_path / "walk_1.npy", values)
    example = run_block("adding_a_dataset.md")["NpyFolder"]
    dataset = example(tmp_path, example.Options())
    [info] = dataset.sequences()
    x, y, z = values[1, 2] / 1000
    np.testing.assert_allclose(dataset.read(info).frame(1)[2], [x, -z, y], rtol=1e-6)
    assert (info.action, info.splits) == (0, {"odd-even": "train"})
    (tmp_path / "broken_2.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "nobody.npy").write_bytes(b"")
    damaged = example(tmp_path, example.Options()).listing.damaged
    assert [str(item.error).splitlines()[0].partition("npy ")[2][:16] for item in damaged] == ["cannot be read: ", "has no number of"]


def test_example_of_a_teacher_keeps_its_promises() -> None:
    example = type("Brightness", (run_block("adding_a_teacher.md", 0)["Brightness"],), {"__module__": "lab.brightness"})
    teacher = load_teacher(TEACHERS.name_of(example), image_size=64)
    images = torch.zeros(2, 1, 64, 64)
    images[1, 0, :16, -16:] = 1.0
    features = teacher(images)
    assert features.tokens.shape == (2, 1, teacher.spec.num_patches, 2)
    assert features.summary.shape == (2, 1, 2)
    assert features.tokens[1, 0, :, 0].argmax() == 3


def _run_commands(text: str) -> None:
    for words in filter(None, command_lines(text)):
        result = CliRunner().invoke(APPS[words[0]], words[1:])
        assert result.exit_code == 0, result.output


def test_blocks_of_the_page_on_handing_on_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ROOT is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    write_store(Path("msr.zarr"), make_infos())
    _run_commands("cross4d-train pretrain --cache msr.zarr --size tiny --frames 3 --points 48 --epochs 1 --out run")
    page = ROOT / "docs" / "handing_on.md"
    [commands], [code] = blocks(page, "sh"), blocks(page, "python")
    _run_commands(commands)
    files = re.findall(r"^\| `([\w.]+)` \| ", page.read_text(), re.MULTILINE)
    assert {path.name for path in Path("student").iterdir()} <= set(files)
    names: dict[str, Any] = {"SHA256": sha256_file(Path("student/model.safetensors"))}
    exec(compile(code, page.name, "exec"), names)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, size=(4, 60, 3)).astype(np.float32)
    expected = names["cross4d_train"].load("run").features(points)
    for loaded in ("student", "pinned"):
        np.testing.assert_array_equal(names[loaded].features(points), expected)


def test_blocks_of_the_python_page_print_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sequences of 24 frames of 1,500 points: a box that turns, and one that walks."""
    assert ROOT is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    boxes = np.random.default_rng(0).uniform([-0.3, -0.9, -0.2], [0.3, 0.9, 0.2], size=(2, 24, 1500, 3)).astype(np.float32)
    times = np.arange(24, dtype=np.float32)
    cosine, sine = np.cos(times / 10)[:, None], np.sin(times / 10)[:, None]
    x, _, z = np.moveaxis(boxes[0].copy(), -1, 0)
    boxes[0, ..., 0], boxes[0, ..., 2] = cosine * x - sine * z, sine * x + cosine * z
    boxes[1, ..., 0] += times[:, None] / 30
    boxes[..., 2] += 3
    for name, frames in zip(("turn", "walk"), boxes, strict=True):
        Path("scans", name).mkdir(parents=True)
        for number, points in enumerate(frames):
            Path("scans", name, f"{number:03d}.ply").write_bytes(ply(points, np.zeros_like(points)))
    np.save("walk.npy", boxes[1])
    page = ROOT / "docs" / "python.md"
    _run_commands(blocks(page, "sh")[0])
    shutil.copytree("scans", "two lines/scans")
    shutil.copytree("run", "two lines/run")
    with monkeypatch.context() as there:
        there.chdir("two lines")
        _run_commands(blocks(page, "sh")[1])
    np.testing.assert_array_equal(np.load("two lines/features/walk/features.npy"), np.load("features/walk/features.npy"))
    names: dict[str, Any] = {}
    for code, printed in re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", page.read_text(), re.DOTALL):
        with redirect_stdout(StringIO()) as stdout:
            exec(compile(code, page.name, "exec"), names)
        assert stdout.getvalue() == printed
    assert len(blocks(page, "python")) == len(blocks(page, "text")) == 6
    assert [len(list(filter(None, blocks(page, "python")[place].splitlines()))) for place in (0, 2)] == [5, 5]
