"""Where something lay on a machine is nobody else's matter: nothing that a build, a run or an evaluation writes names it."""

import shutil
from pathlib import Path

import typer
from typer.testing import CliRunner

from cross4d_cache.build.plan import plan_build
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.cli import app as cache_app
from cross4d_cache.datasets import open_dataset
from cross4d_cache.teachers import load_teacher
from cross4d_train.cli.app import app as train_app
from cross4d_train.evaluation.encoder_source import recorded_places
from tests.cross4d_cache.test_golden_build import write_clouds

LABELS = "sequence,action,subject,split\nball,roll,1,train\nboard,slide,1,train\nball2,roll,2,test\n"
SMALL = ["--size", "tiny", "--frames", "3", "--points", "48", "--split", "all", "--epochs", "1"]
HERE = ["--workers", "0", "--device", "cpu"]
BLACK = ["--image-mean", *"000", "--image-std", *"111"]


def run(app: typer.Typer, *arguments: object) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


def test_nothing_written_names_the_folders_of_a_machine(tiny_vit: Path, tmp_path: Path) -> None:
    given, made = tmp_path / "alice" / "given", tmp_path / "alice" / "made"
    made.mkdir(parents=True)
    write_clouds(given / "clouds")
    shutil.copytree(given / "clouds" / "ball", given / "clouds" / "ball2")
    (given / "split.csv").write_text(LABELS)
    (given / "vit").symlink_to(tiny_vit)
    data = ["--dataset", "folder", "--data", given / "clouds", "--option", f"labels={given}/split.csv", "--points", "256"]
    run(cache_app, "build", *data, "--teacher", "hf", "--weights", given / "vit", *BLACK, "--out", made / "a.zarr")
    run(cache_app, "pack", made / "a.zarr", made / "a.zip")
    run(cache_app, "merge", made / "a.zip", made / "merged.zarr")
    run(train_app, "pretrain", "--cache", made / "a.zarr", "--out", made / "run", *SMALL, *HERE)
    judged = ["--checkpoint", made / "run" / "checkpoint.safetensors", "--cache", made / "a.zarr", *HERE]
    run(train_app, "probe", *judged, "--epochs", "1", "--out", made / "probe.json")
    run(train_app, "transfer", *judged, "--epochs", "1", "--out", made / "transfer.json")
    written = {path.relative_to(made).as_posix(): path.read_bytes() for path in made.rglob("*") if path.is_file()}
    assert {"a.zarr/zarr.json", "run/settings.json", "run/checkpoint.safetensors", "probe.json", "transfer.json", "a.zip"} <= written.keys()
    assert [name for name, data in written.items() if b"alice" in data or str(tmp_path).encode() in data] == []


def test_where_labels_lie_and_how_fast_frames_follow_make_no_other_store(tmp_path: Path) -> None:
    write_clouds(tmp_path / "clouds")
    manifests = []
    for place, rate in (("one", "30"), ("two", "15"), ("two", "15")):
        table = tmp_path / place / "split.csv"
        table.parent.mkdir(exist_ok=True)
        table.write_text(LABELS)
        dataset = open_dataset("folder", tmp_path / "clouds", {"labels": str(table), "frame_rate": rate, "drop_zeros": "true"})
        manifests.append(plan_build(dataset, load_teacher("position"), BuildSettings()).manifest)
    first, second, third = manifests
    assert first.fingerprint == second.fingerprint
    assert first.setting_differences(second) == []
    assert first.differences(second) == ["plan.description.frame_rate: 30.0 here, 15.0 there"]
    assert second.differences(third) == []
    assert first.dataset.options["drop_zeros"] is True
    assert first.reader_options["frame_rate"] == 30.0
    assert "labels" not in first.reader_options


def test_places_are_told_apart_by_as_little_as_can_be() -> None:
    assert recorded_places(["/home/alice/run/a.safetensors", "random", "runs/a"]) == ("run/a.safetensors", "random", "runs/a")
    assert recorded_places(["/home/alice/a/run/c", "/home/alice/b/run/c", "/home/alice/b/run/c"]) == ("a/run/c", "b/run/c", "b/run/c")
