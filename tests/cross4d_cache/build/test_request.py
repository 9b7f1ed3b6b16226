"""A build as a value: the request is JSON, the function needs no console, and both give what the command gives."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import cross4d_cache
from cross4d_cache.build import estimate
from cross4d_cache.build.build import build_store
from cross4d_cache.build.estimate import estimate_build, store_bytes
from cross4d_cache.build.request import BuildRequest, BuildSettings, DatasetRequest, TeacherRequest
from cross4d_cache.cli import app
from cross4d_cache.cli.options import OPTIONS
from cross4d_cache.errors import SettingsError, TeacherError
from cross4d_cache.store import open_cache
from cross4d_cache.work import Remark, Step, finish

SMALL = {"num_humans": "2", "num_animals": "0", "min_frames": "3", "max_frames": "5"}


def request(**settings: object) -> BuildRequest:
    dataset = DatasetRequest(options=SMALL)
    return BuildRequest(dataset=dataset, settings=BuildSettings.model_validate({"points_per_frame": 64, "limit": 2, **settings}))


def test_a_request_of_json_builds_what_the_command_builds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    asked = request(exclude=(), seed=3)
    finish(build_store(BuildRequest.from_json(asked.model_dump_json()), tmp_path / "a.zarr", device="cpu"))
    assert capfd.readouterr() == ("", ""), "a library function has no console"
    options = [word for name, value in SMALL.items() for word in ("--option", f"{name}={value}")]
    words = ["build", *options, "--points", "64", "--limit", "2", "--seed", "3", "--device", "cpu", "--out", str(tmp_path / "b.zarr")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    ours, theirs = (open_cache(tmp_path / name).manifest for name in ("a.zarr", "b.zarr"))
    assert ours.fingerprint == theirs.fingerprint
    assert ours.checksum == theirs.checksum


def test_a_build_says_where_it_is_and_what_a_user_should_know(tmp_path: Path) -> None:
    events = list(build_store(request(), tmp_path / "a.zarr", device="cpu"))
    built = [event for event in events if isinstance(event, Step) and event.stage.name == "build"]
    frames = sum(info.num_frames for info in open_cache(tmp_path / "a.zarr").sequences)
    assert (built[0].done, built[-1].done, built[-1].stage.total) == (0, frames, frames)
    assert any(isinstance(event, Remark) and "choose with `device`" in event.text for event in events)
    again = list(build_store(request(), tmp_path / "a.zarr", device="cpu"))
    stages = {event.stage.name for event in again if isinstance(event, Step)}
    assert {"verify", "build"} <= stages, "a finished store is checked, byte by byte"


@pytest.mark.parametrize("name", ["points_per_frame", "views", "batch_frames", "frames_per_part", "limit"])
def test_counts_of_nothing_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"`{name}` 0"):
        BuildSettings.model_validate({name: 0})


def test_what_is_left_open_follows_from_camera_and_device() -> None:
    assert (BuildSettings().num_views, BuildSettings(camera_model="spherical").num_views) == (1, 8)
    assert BuildSettings(camera_model="spherical", views=3).num_views == 3
    assert (BuildSettings().frames_per_batch("cpu"), BuildSettings().frames_per_batch("cuda")) == (32, 256)
    assert BuildSettings(batch_frames=7).frames_per_batch("cuda") == 7


def test_a_dry_run_writes_nothing_and_is_near_what_is_built(tmp_path: Path) -> None:
    asked = request(points_per_frame=2048)
    found = finish(estimate_build(asked, tmp_path / "a.zarr", device="cpu"))
    assert not list(tmp_path.iterdir())
    finish(build_store(asked, tmp_path / "a.zarr", device="cpu"))
    cache = open_cache(tmp_path / "a.zarr")
    parts = cache.manifest.parts
    assert (found.sequences, found.parts) == (2, 1)
    assert found.frames == found.measured_frames == sum(part.num_frames for part in parts)
    assert found.rows_per_frame == pytest.approx(sum(part.num_rows for part in parts) / found.frames, abs=0.01)
    assert found.points_per_frame == 2048
    assert found.bytes == pytest.approx(sum(part.bytes for part in parts), rel=0.35), "few frames: what every part has counts"
    assert found.seconds > 0


def test_the_first_batch_which_warms_up_does_not_count_in_a_dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three batches of 2 frames that end after 100, 104 and 108 seconds: two seconds a frame, of which there are 8."""
    times = iter([0.0, 100.0, 104.0, 108.0])
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    found = finish(estimate_build(request(batch_frames=2), tmp_path / "a.zarr", device="cpu"))
    assert (found.frames, found.measured_frames, found.seconds) == (8, 6, 16.0)


def test_bytes_of_a_store_by_hand() -> None:
    """Per frame: 100 points of 6 bytes and a slot of 2 in each of 2 views, of which 0.6 remains; 5 rows of 384 half floats."""
    assert store_bytes(10, 100.0, 5.0, 384, 2) == 10 * (600 + 3840)


def test_a_dry_run_of_the_command(tmp_path: Path) -> None:
    words = ["build", "--limit", "1", "--points", "64", "--project", "pca:8", "--dry-run", "--out", str(tmp_path / "x.zarr"), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert '"channels": 8' in result.stdout
    assert not list(tmp_path.iterdir())


def test_without_a_teacher_a_store_has_the_same_points_and_labels_and_no_targets(tmp_path: Path) -> None:
    finish(build_store(request(), tmp_path / "taught.zarr", device="cpu"))
    finish(build_store(request().model_copy(update={"teacher": TeacherRequest(name="none")}), tmp_path / "points.zarr", device="cpu"))
    taught, bare = open_cache(tmp_path / "taught.zarr"), open_cache(tmp_path / "points.zarr")
    assert sum(part.num_rows for part in bare.manifest.parts) == 0
    for index, info in enumerate(taught.sequences):
        assert bare.info(index) == info
        frames = np.arange(info.num_frames)
        ours, theirs = (cache.read_clip(index, frames, labels=True) for cache in (taught, bare))
        np.testing.assert_array_equal(ours.points, theirs.points)
        np.testing.assert_array_equal(ours.point_offsets, theirs.point_offsets)
        assert ours.part_labels is not None
        assert theirs.part_labels is not None
        np.testing.assert_array_equal(ours.part_labels, theirs.part_labels)
        assert (theirs.rows == -1).all()
        assert theirs.features.shape == (0, 1)
        assert ours.features.shape[0] > 0


@pytest.mark.parametrize(
    ("teacher", "settings", "kind", "message"),
    [
        ({"weights": "random"}, {}, TeacherError, "weights random for teacher none"),
        ({"layer": 3}, {}, TeacherError, "layer 3 for teacher none"),
        ({}, {"correspondence": "shuffled"}, SettingsError, "shuffled without a teacher"),
    ],
)
def test_what_only_a_teacher_has_is_refused_without_one(
    teacher: dict[str, object], settings: dict[str, object], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    asked = request(**settings).model_copy(update={"teacher": TeacherRequest.model_validate({"name": "none", **teacher})})
    with pytest.raises(kind, match=message):
        finish(build_store(asked, tmp_path / "x.zarr", device="cpu"))
    assert not (tmp_path / "x.zarr").exists()


def test_settings_that_messages_name_are_options_of_the_command() -> None:
    commands = typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
    known = {name for command in commands for option in command.params for name in option.opts}
    assert set(OPTIONS.values()) <= known
    asked = {f"dataset.{name}" for name in DatasetRequest.model_fields} | {f"teacher.{name}" for name in TeacherRequest.model_fields}
    assert asked | (set(BuildSettings.model_fields) - {"frames_per_part"}) <= set(OPTIONS), "a setting that has no option"


def test_the_library_names_settings_and_never_options() -> None:
    root = Path(cross4d_cache.__file__).parent
    spoken = re.compile(r"(?<![\w-])--(?:" + "|".join(option.removeprefix("--") for option in OPTIONS.values()) + r")(?![\w-])")
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in sorted(root.rglob("*.py"))
        if "cli" not in path.relative_to(root).parts
        for line in path.read_text().splitlines()
        if spoken.search(re.sub(r"`cross4d-[^`]*`|`--[^`]*`", "", line)) and '"' in line and '"""' not in line
    ]
    assert not found
