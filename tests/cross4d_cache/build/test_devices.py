"""Several devices that teach one build: CPUs here, each with a teacher of its own, take the turns that GPUs do."""

import itertools
import sys
from pathlib import Path

import pytest
import torch

from cross4d_cache.build import build
from cross4d_cache.build.engines.local import Build
from cross4d_cache.build.plan import plan_build
from cross4d_cache.build.request import BuildRequest, BuildSettings, DatasetRequest, TeacherRequest
from cross4d_cache.cli import main
from cross4d_cache.datasets import open_dataset
from cross4d_cache.errors import SettingsError
from cross4d_cache.rendering import device
from cross4d_cache.rendering.device import choose_devices
from cross4d_cache.teachers import load_teacher
from cross4d_cache.teachers.teacher import Teacher


def counted(folder: Path, turns: list[int], number: int) -> Teacher:
    teacher = load_teacher("hf", str(folder))
    whole = teacher.forward

    def forward(clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        turns.append(number)
        return whole(clips)

    teacher.forward = forward  # type: ignore[method-assign]
    return teacher


def test_a_store_does_not_depend_on_how_many_there_are(msr_folder: Path, tiny_vit: Path, tmp_path: Path) -> None:
    dataset, found = open_dataset("msr_action3d", msr_folder), []
    for count in (1, 2, 3):
        turns: list[int] = []
        first, *others = (counted(tiny_vit, turns, number) for number in range(count))
        plan = plan_build(dataset, first, BuildSettings(points_per_frame=60, frames_per_part=9, batch_frames=4))
        store = tmp_path / f"{count}.zarr"
        list(Build(dataset, first, plan, store, others=others).run())
        found.append({path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()})
        shares = [turns.count(number) for number in range(count)]
        assert sum(shares) >= 9
        assert max(shares) - min(shares) <= 1
    assert found[0] == found[1] == found[2]


def test_a_request_loads_a_teacher_on_each_of_them(
    msr_folder: Path, tiny_vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[int] = []
    numbers = itertools.count()
    monkeypatch.setattr(build, "choose_devices", lambda name, count: [torch.device("cpu")] * count)
    monkeypatch.setattr(build, "load", lambda *_, **__: counted(tiny_vit, turns, next(numbers)))
    asked = BuildRequest(
        dataset=DatasetRequest(name="msr_action3d", root=msr_folder),
        teacher=TeacherRequest(name="hf", weights=str(tiny_vit)),
        settings=BuildSettings(points_per_frame=60, batch_frames=4),
    )
    events = list(build.build_store(asked, tmp_path / "s.zarr", num_devices=2))
    assert any("device cpu, cpu" in str(event) for event in events)
    assert set(turns) == {0, 1}


def test_the_first_gpus_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(device, "choose_device", torch.device)
    assert [str(item) for item in choose_devices("auto", 2)] == ["cuda:0", "cuda:1"]
    assert [str(item) for item in choose_devices("cuda", 3)] == ["cuda:0", "cuda:1", "cuda:2"]
    assert [str(item) for item in choose_devices("cuda:2", 1)] == ["cuda:2"]
    with pytest.raises(SettingsError, match=r"(?s)`num_devices` 4 with `device` cuda.*1 to 3, as many GPUs as there are"):
        choose_devices("cuda", 4)
    for name in ("cpu", "cuda:1"):
        with pytest.raises(SettingsError, match=rf"(?s)`num_devices` 2 with `device` {name}.*1: that is a single device"):
            choose_devices(name, 2)
    with pytest.raises(SettingsError, match="`num_devices` 0"):
        choose_devices("cuda", 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "--devices 2 with --device cpu"), (["--dry-run"], "--devices with --dry-run")],
)
def test_what_cannot_be_is_said_in_the_words_of_the_command(
    tmp_path: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["cross4d-cache", "build", "--limit", "1", "--device", "cpu", "--devices", "2", "--out", str(tmp_path / "s.zarr"), *words]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "s.zarr").exists()
