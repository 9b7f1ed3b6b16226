"""A whole recipe, every table and figure, on a handful of tiny sequences."""

import json
import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
import pytest

from cross4d_cache.build.request import BuildSettings
from cross4d_cache.datasets import open_dataset
from cross4d_cache.errors import SettingsError
from cross4d_train.clips import ClipSettings
from cross4d_train.settings import EncoderSettings
from pipelines import bodies, deforming_things4d, hoi4d, msr_action3d, ntu_rgbd, synthetic
from pipelines.experiment import pool, work
from pipelines.experiment.pool import do_all
from pipelines.experiment.work import Piece, Student
from pipelines.paper.benchmark import Benchmark, Setup
from pipelines.paper.published import TITLES
from pipelines.paper.recipe import Recipe, choose, load_setup, main, make_setup, parse_teachers
from pipelines.paper.scales import small
from pipelines.paper.tables import TABLES

NUM_ACTIONS = 4
OPTIONS = {"min_frames": "8", "max_frames": "8", "seed": "3", "resolution": "0.4"}
TINY = small(stride=2, num_epochs=1, clips_per_sequence=1, num_windows=1).model_copy(
    update={
        "encoder": EncoderSettings(size="tiny"),
        "large": tuple(EncoderSettings(name="p4transformer", size="tiny") for _ in range(3)),
        "clips": ClipSettings(num_frames=4, num_points=64, stride=2),
        "tuning_epochs": 1,
        "segment_epochs": 1,
        "gaps": (1, 3),
    }
)


def make_benchmark(name: str, humans: int, animals: int) -> Benchmark:
    options = {"num_humans": str(humans), "num_animals": str(animals), **OPTIONS}
    actions = set[int]()
    left_out = []
    for info in open_dataset("synthetic", None, options).sequences():  # a few actions of every subject will do
        actions |= {info.action} if len(actions) < NUM_ACTIONS else set()
        left_out += [] if info.action in actions else [info.id]
    fields: dict[str, object] = {
        "name": name,
        "dataset": "synthetic",
        "options": {"small": options},
        "stores": {"small": BuildSettings(points_per_frame=256, exclude=tuple(left_out))},
        "needs_data": False,
        "protocol": "cross-subject",
        "teachers": {"small": ("tiny", "position")},
        "tables": tuple(TABLES),
        "figures": (2, 3, 4, 5, 6, 7, 8),
        "scales": {"small": TINY},
    }
    return Benchmark.model_validate(fields)


def make_setup_at(out: Path, name: str, humans: int, animals: int) -> Setup:
    return make_setup(make_benchmark(name, humans, animals), "small", data=None, out=out, teachers=None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    out = tmp_path_factory.mktemp("recipe")
    setup, animals = make_setup_at(out, "people", 3, 0), make_setup_at(out / "animals", "animals", 0, 3)
    tables = [build(setup, (animals,)) for build in TABLES.values()]
    recipe = Recipe(setup, (animals,), tables, (2, 3, 4, 5, 6, 7, 8), seeds=1, device="cpu", jobs=2)
    recipe.run()
    return out, recipe


def test_every_table_and_figure_is_written(finished: tuple[Path, Recipe]) -> None:
    out, _ = finished
    report = json.loads((out / "report.json").read_text())
    assert [table["number"] for table in report["tables"]] == sorted(TITLES)
    for table in report["tables"]:
        for row in table["cells"].values():
            for cell in row.values():
                assert len(cell["values"]) == 1
                assert all(0 <= value <= 1 for value in cell["values"])
    text = (out / "report.md").read_text()
    for number, title in TITLES.items():
        assert f"## Table {number}: {title}" in text
        assert matplotlib.image.imread(out / f"report_table_{number:02}.png")[..., :3].std() > 0.02
    for number in (2, 3, 4, 5, 6, 7, 8):
        assert matplotlib.image.imread(out / f"figure_{number}.png")[..., :3].std() > 0.02


def test_what_is_done_is_not_done_again(finished: tuple[Path, Recipe]) -> None:
    out, recipe = finished
    files = {path: path.stat().st_mtime_ns for folder in ("students", "results", "stores") for path in (out / folder).rglob("*")}
    before = json.loads((out / "report.json").read_text())["tables"]
    Recipe(recipe.setup, recipe.others, recipe.tables, (), seeds=1, device="cpu", jobs=2).run()  # drawn figures are drawn each time
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert json.loads((out / "report.json").read_text())["tables"] == before


def test_tables_share_stores_students_and_results(finished: tuple[Path, Recipe]) -> None:
    _, recipe = finished
    cells = sum(len(table.cells()) for table in recipe.tables) * recipe.seeds
    assert len(recipe.runs()) < cells / 2
    assert len({item.folder for item in recipe.students()}) == len(recipe.students())


def test_work_goes_seed_by_seed_and_evaluations_follow_their_student(finished: tuple[Path, Recipe]) -> None:
    _, recipe = finished
    items = Recipe(recipe.setup, recipe.others, recipe.tables, (), seeds=3, device="cpu", jobs=2).work()
    students = [item if isinstance(item, Student) else item.student for item in items]
    seeds = [item.seed for item in students]
    assert seeds == sorted(seeds)
    assert set(seeds) == {0, 1, 2}
    places = [index for index, student in enumerate(students) if index == 0 or student != students[index - 1]]
    assert len(places) == len({student.model_dump_json() for student in students})  # all that is to do with a student stands together
    assert all(isinstance(items[place], Student) == (students[place].settings is not None) for place in places)


def test_no_evaluation_begins_before_its_student_is_trained(finished: tuple[Path, Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    _, recipe = finished
    items, begun, ended = recipe.work(), list[Piece](), list[Piece]()

    class Pool(ThreadPoolExecutor):
        """Says what is begun; nothing is done."""

        def submit(self, _: object, item: Piece, *arguments: object) -> Future[None]:
            assert isinstance(item, Student) or item.student.settings is None or item.student in ended
            begun.append(item)
            assert len(begun) - len(ended) <= 3
            return Future()

    def first_ends(running: dict[Future[None], Piece], return_when: str) -> SimpleNamespace:
        done = next(iter(running))
        ended.append(running[done])
        done.set_result(None)
        return SimpleNamespace(done={done})

    monkeypatch.setattr(pool, "ProcessPoolExecutor", lambda jobs, **_: Pool(jobs))
    monkeypatch.setattr(pool, "wait", first_ends)
    monkeypatch.setattr(Student, "is_done", lambda _: False)
    do_all(items, "cpu", 3)
    assert len(begun) == len(ended) == len(items)


def test_a_student_of_another_store_or_of_other_settings_is_not_taken_for_this_one(finished: tuple[Path, Recipe]) -> None:
    _, recipe = finished
    student = recipe.students()[0]
    assert student.is_done()
    assert student.store is not None
    other = next(store for store in recipe.stores() if store.origin != student.store.origin)
    assert not student.model_copy(update={"store": other}).is_done()
    assert not student.model_copy(update={"store": student.store.model_copy(update={"path": Path("nowhere")})}).is_done()
    longer = student.settings.changed({"training.num_epochs": 2}) if student.settings else None
    assert not student.model_copy(update={"settings": longer}).is_done()


def test_a_result_of_other_settings_or_of_an_older_student_is_not_taken_for_this_one(
    finished: tuple[Path, Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, recipe = finished
    run = next(item for item in recipe.runs() if item.kind == "finetune" and item.student.settings is not None)
    assert run.is_done()
    checkpoint = Path(run.student.checkpoint)
    before = checkpoint.stat()
    os.utime(checkpoint)
    assert not run.is_done()
    os.utime(checkpoint, ns=(before.st_atime_ns, before.st_mtime_ns))
    settled = work.resolve_settings
    monkeypatch.setattr(work, "resolve_settings", lambda *words: settled(*words).model_copy(update={"learning_rate": 0.5}))
    assert not run.is_done()


def test_transfer_between_two_recipes_of_one_dataset_is_refused(finished: tuple[Path, Recipe]) -> None:
    _, recipe = finished
    with pytest.raises(SettingsError, match="two recipes of one dataset"):
        TABLES[5](recipe.setup, (recipe.setup,))


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--protocol", "typo"], "--protocol typo"), (["--out", "FILE"], "cannot write to"), (["--jobs", "0"], "--jobs 0")],
)
def test_mistakes_are_told_before_anything_is_built(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "FILE").write_text("mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["synthetic", "--tables", "1", *words])
    with pytest.raises(SystemExit) as stop:
        main(synthetic.PEOPLE, synthetic.__doc__)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"]


def test_figure_6_needs_table_4(finished: tuple[Path, Recipe]) -> None:
    _, recipe = finished
    with pytest.raises(SettingsError, match="figure 6 without table 4"):
        Recipe(recipe.setup, (), recipe.tables[:2], (6,), seeds=1, device="cpu", jobs=2)


def test_another_recipe_can_be_named_by_its_folder(finished: tuple[Path, Recipe], tmp_path: Path) -> None:
    out, recipe = finished
    (tmp_path / "setup.json").write_text("{}")
    with pytest.raises(SettingsError, match="another version"):
        load_setup(tmp_path, "small")
    assert load_setup(out, "small") == recipe.setup
    with pytest.raises(SettingsError, match="of scale small"):
        load_setup(out, "paper")
    with pytest.raises(SettingsError, match="no folder of a recipe"):
        load_setup(out / "stores", "small")


def test_the_setup_of_a_recipe_that_release_01_ran_is_read(tmp_path: Path) -> None:
    setup = make_setup(bodies.BENCHMARK, "small", data=None, out=tmp_path, teachers=None)
    written = json.loads(setup.model_dump_json())
    written["benchmark"]["stores"] = {"small": ["--points", "1024"]}
    (tmp_path / "setup.json").write_text(json.dumps(written))
    assert load_setup(tmp_path, "small") == setup


@pytest.mark.parametrize("wanted", ["99", "one", "1,,2"])
def test_numbers_that_are_no_table(wanted: str) -> None:
    with pytest.raises(SettingsError, match="no table"):
        choose(wanted, (1, 2), "table")


def test_choices() -> None:
    assert choose(None, (1, 4), "table") == (1, 4)
    assert choose("4, 1,4", (1, 4), "table") == (1, 4)
    assert parse_teachers(["hf=a/b=c", "tiny"]) == {"hf": "a/b=c", "tiny": None}


@pytest.mark.parametrize("module", [msr_action3d, deforming_things4d, ntu_rgbd, hoi4d])
def test_every_table_of_every_benchmark_can_be_laid_out_at_both_scales(module: object, tmp_path: Path) -> None:
    benchmark: Benchmark = module.BENCHMARK  # type: ignore[attr-defined]
    for scale in ("small", "paper"):
        setup = make_setup(benchmark, scale, data=tmp_path, out=tmp_path, teachers=None)
        for number in benchmark.tables:
            table = TABLES[number](setup, ())
            assert table.cells()
            assert table.reference is None or table.reference in table.rows


def test_the_paper_scale_prints_the_paper_s_numbers(tmp_path: Path) -> None:
    setup = make_setup(msr_action3d.BENCHMARK, "paper", data=tmp_path, out=tmp_path, teachers=None)
    published = {
        (number, row, column): cell.published
        for number in msr_action3d.BENCHMARK.tables
        for row, cells in TABLES[number](setup, ()).rows.items()
        for column, cell in cells.items()
    }
    assert published[1, "dense, raw targets", "raw"] == 0.81
    assert published[2, "vjepa2", "dense"] == 0.88
    assert published[4, "dense", "10%"] == 0.46
    assert published[10, "168 px", "raw"] == 0.847
    assert published[13, "dense, raw", "points: 25% of points"] == 0.16
    assert published[18, "p4transformer", "vjepa2"] == 0.8
    assert published[20, "finer tokens", "raw"] == 0.607


def test_patch_indices_are_those_of_a_main_teacher_whose_size_the_scale_sets(tmp_path: Path) -> None:
    def image_size(teacher: str) -> int | None:
        setup = make_setup(msr_action3d.BENCHMARK, "paper", data=tmp_path, out=tmp_path, teachers=[teacher])
        return setup.controls()["position"].request.teacher.image_size

    assert image_size("dinov2") == 72  # 9 x 9 patches, as DINOv2 has at 126 px
    assert image_size("hf=FOLDER") is None


def test_help_names_the_tables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["synthetic", "--help"])
    with pytest.raises(SystemExit) as stop:
        main(synthetic.PEOPLE, synthetic.__doc__)
    assert not stop.value.code
    shown = capsys.readouterr().out
    assert "pipelines.synthetic" in shown
    assert all(str(number) in shown for number in TABLES)
