"""Builders that share a store without talking: each part is made, few twice, and the bytes are those of one."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cross4d_cache.build.build import build_store
from cross4d_cache.build.engines import local
from cross4d_cache.build.engines.local import Build, BuildProgress
from cross4d_cache.build.plan import plan_build
from cross4d_cache.build.request import BuildRequest, BuildSettings, DatasetRequest, TeacherRequest
from cross4d_cache.build.turns import Shard, Turns
from cross4d_cache.cli.app import app
from cross4d_cache.cli.options import OPTIONS
from cross4d_cache.datasets import open_dataset
from cross4d_cache.errors import SettingsError, with_options
from cross4d_cache.store import CacheManifest
from cross4d_cache.teachers import load_teacher
from cross4d_cache.work import Step


def turns(missing: Sequence[int], made: set[int], seed: int = 0, *, first: bool = True) -> Turns:
    return Turns(missing, made.__contains__, np.random.default_rng(seed), first=first)


def test_a_builder_alone_takes_parts_in_order() -> None:
    alone = turns([1, 2, 4, 7], {0, 3, 5, 6})
    assert list(alone) == [1, 2, 4, 7]
    assert alone.skipped == []


@pytest.mark.parametrize("seed", range(5))
def test_one_that_comes_later_begins_far_from_the_others(seed: int) -> None:
    found = list(turns(range(80), set(), seed, first=False))
    assert sorted(found) == list(range(80))
    assert 20 <= found[0] <= 60
    assert found[: 80 - found[0]] == list(range(found[0], 80))
    assert len({next(iter(turns(range(80), set(), other, first=False))) for other in range(20)}) > 4


def test_a_part_that_another_made_meanwhile_sends_it_far_away() -> None:
    made: set[int] = set()
    mine, places = turns(range(100), made), []
    for number in mine:
        places.append(number)
        if number == 1:
            made |= {2, 3, 4, 95}
    assert sorted([*places, *mine.skipped]) == list(range(100))
    assert sorted(mine.skipped) == [2, 3, 4, 95]
    assert places[:2] == [0, 1]
    # The longest run is 5 to 94, 90 parts; its middle is 5 + 45, and 90 // 4 is 22.
    assert 50 - 22 <= places[2] <= 50 + 22


def test_of_a_run_of_two_the_first_is_left_to_whoever_made_what_is_before_it() -> None:
    made: set[int] = set()
    mine = turns(range(5), made)
    going = iter(mine)
    assert next(going) == 0
    made |= {1, 2}
    assert next(going) == 4
    made |= {3}
    assert next(going, None) is None
    assert mine.skipped == [1, 2, 3]


def test_one_whose_part_was_made_at_the_same_time_moves() -> None:
    made: set[int] = set()
    mine = turns(range(100), made)
    going = iter(mine)
    assert [next(going), next(going)] == [0, 1]
    mine.move()
    assert next(going) >= 2 + 49 - 24


def test_runs_are_those_of_the_parts_that_are_its_own() -> None:
    """Of the second of three shards; what lies between them is no gap."""
    share, made = Shard(number=2, count=3).parts(300), {1}
    assert next(iter(turns(share, made))) in share[26:76]


@pytest.mark.parametrize(("builders", "delay"), [(2, 0), (2, 3), (4, 0), (4, 3)])
def test_builders_share_the_parts_and_make_few_twice(builders: int, delay: int) -> None:
    """In steps as long as a part takes; a builder begins its next part before others see the one it is at. Each comes a delay later."""
    twice = []
    for seed in range(20):
        made: set[int] = set()
        each = [turns(range(40), made, 100 * seed + number, first=number == 0) for number in range(builders)]
        going, ahead = [iter(item) for item in each], [[-1] * delay * number for number in range(builders)]
        count = 0
        while any(ahead) or len(made) < 40:
            for parts, item in zip(ahead, going, strict=True):
                while len(parts) < 2 and (part := next(item, None)) is not None:
                    parts.append(part)
            at_work = [parts.pop(0) if parts else -1 for parts in ahead]
            for mine, part in zip(each, at_work, strict=True):
                count += part >= 0
                if part in made:
                    mine.move()
                if part >= 0:
                    made.add(part)
        twice.append(count - 40)
    assert np.mean(twice) <= 2.5 * builders


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_all_parts_and_none_twice(count: int) -> None:
    shares = [Shard(number=number, count=count).parts(5) for number in range(1, count + 1)]
    assert sorted(part for share in shares for part in share) == [0, 1, 2, 3, 4]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("number", "count"), [(0, 4), (5, 4), (0, 0), (1, 0)])
def test_shards_that_cannot_be_are_refused(number: int, count: int) -> None:
    with pytest.raises(SettingsError, match=rf"(?s)`shard` {number}/{count}.*1/"):
        Shard(number=number, count=count)


def test_a_shard_is_written_as_it_is_said() -> None:
    assert Shard.parse("2/3") == Shard(number=2, count=3)
    assert list(Shard.parse("2/3").parts(8)) == [1, 4, 7]


def builder(data: Path, weights: Path, out: Path, shard: Shard | None = None) -> Build:
    dataset, teacher = open_dataset("msr_action3d", data), load_teacher("hf", str(weights))
    plan = plan_build(dataset, teacher, BuildSettings(points_per_frame=60, frames_per_part=9, batch_frames=4))
    return Build(dataset, teacher, plan, out, shard=shard)


def files(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(msr_folder: Path, tiny_vit: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    store = tmp_path_factory.mktemp("one") / "s.zarr"
    list(builder(msr_folder, tiny_vit, store).run())
    return files(store)


def last(run: Iterator[BuildProgress]) -> BuildProgress:
    *_, progress = run
    return progress


def test_shards_in_any_order_give_the_bytes_of_one_builder(
    msr_folder: Path, tiny_vit: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    store, total, built = tmp_path / "s.zarr", 0, 0
    for number in (3, 1, 2):
        run = builder(msr_folder, tiny_vit, store, Shard(number=number, count=3))
        total = len(run.plan.parts)
        progress = last(run.run())
        built += progress.frames_built
        assert progress.frames_done == progress.frames_built == run.num_frames(run.share)
        assert CacheManifest.read(store).complete == (number == 2)
    assert total >= 3
    assert built == CacheManifest.read(store).plan.num_frames
    assert files(store) == whole


def test_a_plain_build_makes_what_shards_left(msr_folder: Path, tiny_vit: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    store = tmp_path / "s.zarr"
    shard = builder(msr_folder, tiny_vit, store, Shard(number=2, count=2))
    last(shard.run())
    assert shard.writer.missing() == list(range(0, len(shard.plan.parts), 2))
    again = last(builder(msr_folder, tiny_vit, store, Shard(number=2, count=2)).run())
    assert again.frames_built == 0
    plain = builder(msr_folder, tiny_vit, store)
    progress = last(plain.run())
    assert progress.frames_built == plain.num_frames(range(0, len(plain.plan.parts), 2))
    assert progress.frames_done == plain.num_frames(plain.share)
    assert files(store) == whole


def test_two_builders_at_the_same_time_make_little_twice(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for number in range(128):
        (tmp_path / "scans" / f"{number:03}").mkdir()
        np.save(tmp_path / "scans" / f"{number:03}" / "0.npy", np.random.default_rng(number).normal(0, 0.5, (20, 3)).astype(np.float32))
    dataset, settings = open_dataset("folder", tmp_path / "scans"), BuildSettings(frames_per_part=8, batch_frames=2)

    def one(store: Path) -> Build:
        teacher = load_teacher("position")
        return Build(dataset, teacher, plan_build(dataset, teacher, settings), store)

    alone = one(tmp_path / "alone.zarr")
    total = last(alone.run()).frames_built
    first, second = one(tmp_path / "s.zarr"), one(tmp_path / "s.zarr")
    assert (first.writer.first, second.writer.first) == (True, False)
    running = [first.run(), second.run()]
    while running:
        running = [run for run in running if next(run, None) is not None]
    built = [first.progress.frames_built, second.progress.frames_built]
    assert total <= sum(built) <= 1.9 * total  # as a rule 1.2; without looking 2
    assert max(built) <= 0.95 * total
    assert first.progress.frames_done == second.progress.frames_done == total
    assert files(tmp_path / "s.zarr") == files(tmp_path / "alone.zarr")


def test_who_begins_a_store_starts_at_its_first_part_and_who_was_second_at_a_part_moves(
    msr_folder: Path, tiny_vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Watched] = []

    class Watched(Turns):
        def __init__(self, *arguments: Any, first: bool) -> None:
            super().__init__(*arguments, first=first)
            self.first, self.moves = first, 0
            made.append(self)

        def move(self) -> None:
            self.moves += 1
            super().move()

    monkeypatch.setattr(local, "Turns", Watched)
    store, part = tmp_path / "s.zarr", Shard(number=1, count=3)
    begins, joins = builder(msr_folder, tiny_vit, store), builder(msr_folder, tiny_vit, store)
    shards = [builder(msr_folder, tiny_vit, store, part) for _ in range(2)]
    running = [run.run() for run in (begins, joins, *shards)]
    for run in running:
        next(run)  # all have looked what is missing, and nothing is made
    assert [turns.first for turns in made] == [True, False, True, True]
    going = running[2:]
    while going:
        going = [run for run in going if next(run, None) is not None]
    assert shards[0].progress.frames_built == shards[1].progress.frames_built > 0
    assert sorted(turns.moves for turns in made[2:]) == [0, 1]


def test_the_progress_of_a_shard_is_that_of_its_parts(msr_folder: Path, tmp_path: Path) -> None:
    settings = BuildSettings(points_per_frame=60, frames_per_part=9)
    request = BuildRequest(
        dataset=DatasetRequest(name="msr_action3d", root=msr_folder), teacher=TeacherRequest(name="position"), settings=settings
    )
    shard = Shard(number=2, count=3)
    events = list(build_store(request, tmp_path / "s.zarr", device="cpu", shard=shard))
    steps = [event for event in events if isinstance(event, Step) and event.stage.name == "build"]
    dataset, teacher = open_dataset("msr_action3d", msr_folder), load_teacher("position")
    parts = plan_build(dataset, teacher, settings).parts
    share = sum(info.num_frames for number in shard.parts(len(parts)) for info in parts[number])
    assert {step.stage.total for step in steps} == {steps[-1].done} == {share}
    assert share < sum(info.num_frames for part in parts for info in part)


def ended(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["build", "--limit", "3", "--device", "cpu", "--points", "40", "--quiet", *words])
    if isinstance(result.exception, SettingsError):
        return 2, "", with_options(str(result.exception), OPTIONS)
    return result.exit_code, result.stdout, result.stderr


def test_a_shard_says_what_is_left(tmp_path: Path) -> None:
    words = ["--json", "--out", str(tmp_path / "s.zarr")]
    code, out, said = ended("--shard", "2/2", *words)
    assert (code, json.loads(out)["state"]) == (0, "unfinished, 0 of 1 parts")
    assert "shard 2/2: its 0 of 1 parts are made; still missing: 1. When all shards have ended" in said
    assert "the same command without --shard makes what is left" in said
    code, out, said = ended("--shard", "1/2", *words)
    assert (code, json.loads(out)["state"]) == (0, "complete")
    assert "shard 1/2: its 1 of 1 parts are made; with those of the others the store is finished" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shard", "0/4"], "--shard 0/4"),
        (["--shard", "2"], "--shard 2\n  expected: I/N, such as 1/4"),
        (["--shard", "1/2", "--dry-run"], "--shard with --dry-run"),
    ],
)
def test_shards_that_cannot_be_are_said_in_the_words_of_the_command(tmp_path: Path, words: list[str], said: str) -> None:
    code, _, told = ended(*words, "--out", str(tmp_path / "s.zarr"))
    assert code == 2
    assert said in told
    assert not (tmp_path / "s.zarr").exists()
