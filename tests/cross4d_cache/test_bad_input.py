"""Whatever a user gets wrong ends in one message, exit code 2, and nothing that stands in the way of the next try."""

import io
import json
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

from cross4d_cache import cli
from cross4d_cache.errors import DatasetError
from cross4d_cache.store import CacheManifest, open_cache
from cross4d_cache.types import PointCloudSequence, SequenceInfo


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def messages(self) -> list[str]:
        """The error messages among the lines on stderr; progress bars end in carriage returns."""
        return [line for line in self.err.replace("\r", "\n").splitlines() if line.startswith("error:")]


Run = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `cross4d-cache` with some arguments."""

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["cross4d-cache", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def data(msr_folder: Path, tmp_path: Path) -> Path:
    """A copy of the raw data to damage."""
    return Path(shutil.copytree(msr_folder, tmp_path / "data"))


@pytest.fixture
def build(run: Run, tiny_vit: Path, data: Path, tmp_path: Path) -> Run:
    """Builds `out` from the data; keyword arguments replace options, None drops one; a tuple holds several values."""

    def call(**changes: object) -> Outcome:
        options: dict[str, object] = {
            "teacher": "hf", "weights": tiny_vit, "dataset": "msr_action3d", "data": data, "out": tmp_path / "out", "project": "random:16",
            "points": 50, "limit": 3, "device": "cpu",
        }  # fmt: skip
        options |= changes
        pairs = [(f"--{name.replace('_', '-')}", value) for name, value in options.items() if value is not None]
        return run("build", *(item for name, value in pairs for item in (name, *(value if isinstance(value, tuple) else (value,)))))

    return call


def assert_refused(outcome: Outcome, *words: str) -> None:
    assert outcome.code == 2, outcome
    assert len(outcome.messages) == 1, outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    message = outcome.err[outcome.err.index("error:") :]
    assert all(word in message for word in words), message


def assert_builds(outcome: Outcome, store: Path) -> None:
    assert outcome.code == 0, outcome.err
    assert CacheManifest.read(store).complete


def sequence_file(data: Path, name: str = "a01_s02_e01") -> Path:
    return data / f"{name}_sdepth.bin"


def test_a_folder_that_is_not_there(build: Run, tmp_path: Path) -> None:
    assert_refused(build(data=tmp_path / "nowhere"), "nowhere", "--data")
    assert not (tmp_path / "out").exists()


def test_a_file_instead_of_a_folder(build: Run, data: Path) -> None:
    assert_refused(build(data=sequence_file(data)), "is a file", "--data")


def test_an_empty_folder(build: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(build(data=tmp_path / "empty"), "no MSR-Action3D sequences", "a01_s01_e01_sdepth.bin")


def test_no_folder_at_all(build: Run) -> None:
    assert_refused(build(data=None), "--data")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda raw: raw[: len(raw) // 2], ["truncated", "promises 8 frames"]),
        (lambda raw: raw[:-1], ["truncated"]),
        (lambda raw: struct.pack("<I", 2**31) + raw[4:], ["promises 2147483648 frames"]),
        (lambda raw: raw[:12], ["promises 8 frames"]),
        (lambda raw: raw[:7], ["ends inside its header, after 7 bytes"]),
        (lambda raw: b"", ["after 0 bytes"]),
    ],
)
def test_damaged_files_are_named_before_anything_is_built(
    build: Run, data: Path, tmp_path: Path, damage: Callable[[bytes], bytes], words: list[str]
) -> None:
    path = sequence_file(data)
    intact = path.read_bytes()
    path.write_bytes(damage(intact))
    assert_refused(build(), str(path), "fetch it again", *words)
    assert not (tmp_path / "out").exists()
    path.write_bytes(intact)
    assert_builds(build(), tmp_path / "out")


def test_moving_a_damaged_file_away_mends_the_folder_as_the_message_says(build: Run, data: Path, tmp_path: Path) -> None:
    sequence_file(data).write_bytes(b"")
    assert_refused(build(), "move it out of the folder")
    sequence_file(data).unlink()
    assert_builds(build(), tmp_path / "out")


def empty_frame(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    [frames] = struct.unpack("<I", raw[:4])
    size = (len(raw) - 12) // frames
    raw[12 + size : 12 + 2 * size] = bytes(size)
    path.write_bytes(raw)


def test_a_frame_without_points_names_the_ways_out(build: Run, data: Path, tmp_path: Path) -> None:
    empty_frame(sequence_file(data))
    assert_refused(build(), "a01_s02_e01: frame 1 has no points", "--exclude a01_s02_e01", "another --out", f"deleting {tmp_path / 'out'}")


def test_excluding_the_bad_sequence_into_another_store_succeeds(build: Run, data: Path, tmp_path: Path) -> None:
    empty_frame(sequence_file(data))
    build()
    assert_builds(build(exclude="a01_s02_e01", out=tmp_path / "other"), tmp_path / "other")
    assert [info.id for info in open_cache(tmp_path / "other").sequences] == ["a01_s01_e01", "a01_s03_e01", "a02_s04_e01"]


def test_excluding_the_bad_sequence_after_deleting_the_store_succeeds(build: Run, data: Path, tmp_path: Path) -> None:
    empty_frame(sequence_file(data))
    build()
    assert_refused(build(exclude="a01_s02_e01"), "plan", "another --out")
    shutil.rmtree(tmp_path / "out")
    assert_builds(build(exclude="a01_s02_e01"), tmp_path / "out")


def test_mending_the_bad_sequence_and_running_again_succeeds(build: Run, data: Path, msr_folder: Path, tmp_path: Path) -> None:
    empty_frame(sequence_file(data))
    build()
    shutil.copy(sequence_file(msr_folder), sequence_file(data))
    assert_builds(build(), tmp_path / "out")


def test_an_error_in_the_middle_keeps_the_parts_before_it(
    build: Run, data: Path, msr_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cross4d_cache.build import request

    class SmallParts(request.BuildSettings):
        frames_per_part: int = 5

    monkeypatch.setattr(request, "BuildSettings", SmallParts)
    empty_frame(sequence_file(data, "a01_s03_e01"))
    assert_refused(build(limit=None), "a01_s03_e01")
    parts = tmp_path / "out" / "parts"
    committed = {path.name: path.stat().st_mtime_ns for path in parts.glob("[0-9]*")}
    assert committed.keys() == {"00000", "00001"}
    assert not list((tmp_path / "out").glob(".*"))
    shutil.copy(sequence_file(msr_folder, "a01_s03_e01"), sequence_file(data, "a01_s03_e01"))
    assert_builds(build(limit=None), tmp_path / "out")
    assert {name: (parts / name).stat().st_mtime_ns for name in committed} == committed
    assert len(open_cache(tmp_path / "out").sequences) == 6


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_coordinates_that_are_not_finite(value: float) -> None:
    points = np.ones((6, 3), np.float32)
    points[4, 1] = value
    info = SequenceInfo(id="walk", num_frames=2)
    with pytest.raises(DatasetError, match=r"walk: 1 points are NaN or infinite, the first in frame 1"):
        PointCloudSequence(info=info, points=points, point_offsets=np.array([0, 3, 6]))


@pytest.mark.parametrize("counts", [[0, 3], [3, 0], []])
def test_frames_without_points(counts: list[int]) -> None:
    info = SequenceInfo(id="walk", num_frames=len(counts))
    with pytest.raises(DatasetError, match="walk"):
        PointCloudSequence(info=info, points=np.ones((sum(counts), 3), np.float32), point_offsets=np.cumsum([0, *counts], dtype=np.int64))


def test_an_output_that_is_a_file(build: Run, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    assert_refused(build(), "is a file", "choose another place")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("place", ["file/out", "/proc/out"])
def test_an_output_that_cannot_be_written(build: Run, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    assert_refused(build(out=tmp_path / place), "cannot write", "choose another place")


def test_an_output_that_holds_something_else(build: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    assert_refused(build(), "not a store", "choose another place")


def test_a_store_of_other_settings(build: Run, tmp_path: Path) -> None:
    assert_builds(build(), tmp_path / "out")
    assert_refused(build(views=2, seed=1), "render.views: 2 here, 1 there", "seed: 1 here, 0 there", "another --out")


def test_a_store_of_another_correspondence(build: Run, tmp_path: Path) -> None:
    assert_builds(build(), tmp_path / "out")
    assert_refused(build(correspondence="shuffled"), "correspondence: shuffled here, zbuffer there", "another --out")


def test_weights_of_another_architecture(build: Run, tmp_path: Path) -> None:
    assert_refused(build(teacher="dinov2-s"), "type 'vit'", "dinov2", "--teacher hf")
    assert not (tmp_path / "out").exists()


def test_a_hub_that_cannot_be_reached(build: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert_refused(build(teacher="dinov2-s", weights=None), "facebook/dinov2-small", "with --weights")


@pytest.mark.parametrize("weights", ["./nowhere", "/nowhere", "nowhere", "no/where"])
def test_weights_that_are_nowhere(build: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert_refused(build(weights=weights), weights, "--weights")


@pytest.fixture
def broken_vit(tiny_vit: Path, tmp_path: Path) -> Path:
    """A copy of the weights to damage."""
    return Path(shutil.copytree(tiny_vit, tmp_path / "broken_vit"))


@pytest.mark.parametrize("size", [0, 7, 500, -1])
def test_truncated_weights(build: Run, broken_vit: Path, size: int) -> None:
    weights = broken_vit / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    assert_refused(build(weights=broken_vit), str(broken_vit), "cannot be loaded")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_of_the_model(build: Run, broken_vit: Path, name: str) -> None:
    (broken_vit / name).unlink()
    assert_refused(build(weights=broken_vit), f"has no {name}")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", ""),
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", '{"model_type": "no such model"}'),
        ("preprocessor_config.json", ""),
        ("preprocessor_config.json", "{"),
    ],
)
def test_a_damaged_description_of_the_model(build: Run, broken_vit: Path, name: str, content: str) -> None:
    (broken_vit / name).write_text(content)
    assert_refused(build(weights=broken_vit), str(broken_vit))


@pytest.mark.parametrize("teacher", ["hf", "dinov2-s"])
@pytest.mark.parametrize("known", [True, False])
def test_code_beside_a_model_is_not_run(
    build: Run, broken_vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: str, known: bool
) -> None:
    """Not even where somebody says yes to every question; of a type that transformers has, its own code is used."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 99))
    marker = tmp_path / "ran"
    (broken_vit / "own.py").write_text(f"open({str(marker)!r}, 'w')\nfrom transformers import ViTConfig as C, ViTModel as M\n")
    config = json.loads((broken_vit / "config.json").read_text())
    names = {"AutoConfig": "own.C", "AutoModel": "own.M", "AutoImageProcessor": "own.P"}
    (broken_vit / "config.json").write_text(
        json.dumps({**config, "model_type": "vit" if known else "own", "auto_map": names, "architectures": ["M"]})
    )
    preprocessing = json.loads((broken_vit / "preprocessor_config.json").read_text())
    (broken_vit / "preprocessor_config.json").write_text(json.dumps({**preprocessing, "auto_map": names}))
    outcome = build(weights=broken_vit, teacher=teacher)
    assert not marker.exists()
    assert "[y/N]" not in outcome.out + outcome.err
    if known and teacher == "hf":
        assert_builds(outcome, tmp_path / "out")
    else:
        assert_refused(outcome, str(broken_vit), "type 'vit'" if known else "is not run")


def test_weights_that_do_not_fit_their_configuration(build: Run, broken_vit: Path) -> None:
    config = json.loads((broken_vit / "config.json").read_text())
    (broken_vit / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    assert_refused(build(weights=broken_vit), "do not fit")


def test_images_that_are_not_a_whole_number_of_patches(build: Run, tmp_path: Path) -> None:
    assert_refused(build(image_size=36), "36", "8 px", "--image-size 32 or 40")
    assert_builds(build(image_size=40), tmp_path / "out")


def test_features_that_overflow(build: Run, tmp_path: Path) -> None:
    folder = tmp_path / "loud"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
        model = Dinov2Model(config)
    with torch.no_grad():
        model.layernorm.weight.fill_(1e6)
    model.save_pretrained(folder)
    BitImageProcessorPil(crop_size={"height": 28, "width": 28}).save_pretrained(folder)
    assert_refused(build(weights=folder), "float16")


def test_weights_that_do_not_say_how_images_are_normalised(build: Run, broken_vit: Path, tmp_path: Path) -> None:
    (broken_vit / "preprocessor_config.json").unlink()
    assert_refused(build(weights=broken_vit), str(broken_vit), "does not say how", "processor_config.json", "--image-mean and --image-std")
    assert_refused(build(weights=broken_vit, image_mean=(0.5, 0.5, 0.5)), "belong together")
    assert_builds(build(weights=broken_vit, image_mean=(0.5, 0.4, 0.3), image_std=(0.3, 0.2, 0.1)), tmp_path / "out")
    spec = CacheManifest.read(tmp_path / "out").teacher
    assert (spec.mean, spec.std, spec.scale) == ((0.5, 0.4, 0.3), (0.3, 0.2, 0.1), 1.0)


def test_options_that_normalise_impossibly(build: Run) -> None:
    mean, zero = (0.5, 0.5, 0.5), (0.2, 0, 0.2)
    assert_refused(build(image_mean=mean, image_std=zero), "above 0")
    assert_refused(build(image_mean=mean, image_std=("nan", 1, 1)), "above 0")
    assert_refused(build(image_mean=mean, image_std=mean, teacher="tiny", weights=None), "as they are", "leave out --image-mean")


def test_a_description_that_divides_by_zero(build: Run, broken_vit: Path) -> None:
    (broken_vit / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5, 0, 0.5]}))
    assert_refused(build(weights=broken_vit), "preprocessor_config.json", "image_std", "greater than 0")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teacher": "dino"}, ["unknown teacher 'dino'", "dinov2"]),
        ({"dataset": "kinetics"}, ["unknown dataset 'kinetics'", "msr_action3d"]),
        ({"option": "colour=red"}, ["'colour'", "msr_action3d"]),
        ({"option": "colour"}, ["--option colour", "KEY=VALUE"]),
        ({"correspondence": "nearest"}, ["unknown correspondence 'nearest'", "zbuffer, or, as a control, shuffled", "--correspondence"]),
        ({"teacher": "position"}, ["weights", "for teacher position", "leave out --weights"]),
        ({"project": "svd:8"}, ["unknown projection 'svd:8'", "random:CHANNELS", "pca:CHANNELS"]),
        ({"exclude": "a99_s01_e01"}, ["a99_s01_e01"]),
        ({"limit": 0}, ["at least 1"]),
        ({"limit": -1}, ["at least 1"]),
        ({"views": 0}, ["at least 1"]),
        ({"points": 0}, ["at least 1"]),
        ({"batch-size": 0}, ["at least 1"]),
        ({"seed": -1}, ["seed -1"]),
        ({"seed": 2**70}, ["seed"]),
        ({"device": "quantum"}, ["'quantum'", "--device cpu"]),
        ({"weights": None}, ["--weights"]),
    ],
)
def test_unknown_names_and_impossible_numbers(build: Run, tmp_path: Path, changes: dict[str, object], words: list[str]) -> None:
    assert_refused(build(**changes), *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["info", "verify"])
def test_commands_on_what_is_no_store(run: Run, tmp_path: Path, command: str) -> None:
    assert_refused(run(command, tmp_path / "nothing"), "no store")
    assert_refused(run(command, tmp_path), "not a Cross4D store")


@pytest.fixture
def copied_store(small_store: Path, tmp_path: Path) -> Path:
    """A copy of a finished store to damage."""
    return Path(shutil.copytree(small_store, tmp_path / "copy"))


@pytest.mark.parametrize("command", ["info", "verify"])
def test_a_store_of_another_version(run: Run, copied_store: Path, command: str) -> None:
    text = (copied_store / "zarr.json").read_text()
    (copied_store / "zarr.json").write_text(text.replace('"format_version": 1', '"format_version": 2'))
    assert_refused(run(command, copied_store), "version 2", "update cross4d")


@pytest.fixture
def half_built(build: Run, data: Path, tmp_path: Path) -> Path:
    """A store whose only sequences could not be read."""
    empty_frame(sequence_file(data))
    build()
    return tmp_path / "out"


def test_verify_of_a_half_built_store(run: Run, half_built: Path) -> None:
    assert_refused(run("verify", half_built), "not finished", "cross4d-cache build")


def test_info_of_a_half_built_store_says_so(monkeypatch: pytest.MonkeyPatch, half_built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["cross4d-cache", "info", str(half_built)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    assert "unfinished, 0 of 1 parts" in capsys.readouterr().out


def test_a_store_without_one_side_says_so(build: Run, run: Run, small_store: Path, tmp_path: Path) -> None:
    said = "note: no sequence is on the test side of cross-subject, development; a build without --limit"
    assert said in build(limit=3).err
    assert said in run("info", tmp_path / "out").err
    assert "side of" not in run("info", small_store).err


def test_verify_of_a_damaged_store_names_the_file(run: Run, copied_store: Path) -> None:
    path = copied_store / "parts" / "00001" / "points" / "c" / "0" / "0"
    path.write_bytes(path.read_bytes()[:-1])
    assert_refused(run("verify", copied_store), str(path), "build")


def test_verify_of_an_intact_store_succeeds(run: Run, small_store: Path) -> None:
    outcome = run("verify", small_store, "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)["intact"] is True


def test_interrupting_a_build_says_how_to_go_on(build: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("cross4d_cache.store.writer.write_part", _interrupt)
        outcome = build()
    assert outcome.code == 130
    assert "run the same command again to resume" in outcome.err
    assert_builds(build(), tmp_path / "out")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
