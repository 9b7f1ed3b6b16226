"""`check-data`: what is there, what is missing, what is damaged and where, how large the store will be."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cross4d_cache.cli import app
from cross4d_cache.errors import DatasetError, SettingsError
from cross4d_cache.report.check_data import SAMPLE, disk_bytes, estimate_cache_bytes

NAMES = [f"a01_s{subject:02d}_e{take:02d}" for subject in range(1, 11) for take in (1, 2)]


@pytest.fixture
def folder(tmp_path: Path, write_msr: Callable[..., None]) -> Path:
    """Twenty recordings of ten subjects; the first of each has 30 frames, the second 5."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        frames = 30 if name.endswith("01") else 5
        write_msr(tmp_path / f"{name}_sdepth.bin", np.where(rng.random((frames, 6, 8)) < 0.5, 400, 0).astype(np.uint32))
    return tmp_path


def check(*words: object, code: int = 0) -> tuple[str, BaseException | None]:
    result = CliRunner().invoke(app, ["check-data", *map(str, words)])
    assert result.exit_code == code, result.output
    return result.stdout, result.exception


def test_an_intact_folder(folder: Path) -> None:
    record = json.loads(check("--dataset", "msr_action3d", "--data", folder, "--json")[0])
    assert (record["num_sequences"], record["num_frames"], record["read"]) == (20, 10 * 35, SAMPLE)
    sides = {(side["protocol"], side["side"]): (side["found"], side["expected"]) for side in record["sides"]}
    assert sides == {
        ("cross-subject", "train"): (10, 270),
        ("cross-subject", "test"): (10, 297),
        ("development", "train"): (6, None),
        ("development", "test"): (4, None),
    }
    [cover] = [cover for cover in record["coverage"] if cover["length"] == 24]
    assert cover["sides"]["test"]["videos"] == 10
    assert cover["sides"]["test"]["full"] == 5
    assert cover["sides"]["test"]["short"] == [name for name in NAMES[10:] if name.endswith("02")]
    assert record["disk_bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert record["options"]["metres_per_unit"] == 0.005
    assert record["points_per_frame"] == pytest.approx(24, abs=6)
    assert record["damaged"] == []


def test_the_report_names_what_is_needed(folder: Path) -> None:
    text, _ = check("--dataset", "msr_action3d", "--data", folder)
    for words in (
        "20 of 567",
        "train       10 of 270",
        "full clips of 24 frames: train 5 of 10, test 5 of 10; short: a01_s01_e02",
        "to fetch: ",
        "https://",
    ):
        assert words in text, text


def test_a_truncated_file_is_damage_with_its_byte_and_hides_no_other(folder: Path) -> None:
    for name in (NAMES[3], NAMES[17]):
        path = folder / f"{name}_sdepth.bin"
        path.write_bytes(path.read_bytes()[:-100])
    text, error = check("--dataset", "msr_action3d", "--data", folder, code=1)
    assert isinstance(error, DatasetError)
    assert "2 damaged" in str(error)
    assert all(f"{name}_sdepth.bin" in text for name in (NAMES[3], NAMES[17]))
    assert f"ends at byte {(folder / f'{NAMES[3]}_sdepth.bin').stat().st_size}" in text
    assert "18 of 567" in text
    assert "missing: 549," in text, "18 of the 20 exist in the dataset; what is damaged is not missing as well"


def test_damage_inside_a_frame_is_found_by_reading_everything(folder: Path) -> None:
    name = NAMES[5]
    with (folder / f"{name}_sdepth.bin").open("r+b") as file:
        file.seek(12 + 2 * 4 * 48)
        file.write(struct.pack("<I", 1 << 30))
    text, _ = check("--dataset", "msr_action3d", "--data", folder, "--read-all", code=1)
    assert "read to the end: 20" in text
    assert "in frame 2" in text
    assert f"--exclude {name}" in text


def test_a_single_point_is_no_damage_and_listing_damage_can_be_left_out(folder: Path) -> None:
    depth = np.zeros((2, 6, 8), "<u4")
    depth[:, 2, 3] = 400
    (folder / f"{NAMES[4]}_sdepth.bin").write_bytes(struct.pack("<3I", 2, 8, 6) + depth.tobytes())
    (folder / f"{NAMES[6]}_sdepth.bin").write_bytes(b"")
    text, _ = check("--dataset", "msr_action3d", "--data", folder, "--read-all", code=1)
    assert f"--exclude {NAMES[6]}" in text
    assert f"--exclude {NAMES[4]}" not in text, "a single point is no damage"


def test_points_that_are_all_in_one_place_are_damage(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "0.xyz").write_text("0 0 0\n0 0 0\n")
    text, _ = check("--dataset", "folder", "--data", tmp_path, code=1)
    assert "all 2 points of frame 0 are [0.0, 0.0, 0.0]" in text


def test_an_empty_folder_and_a_generated_dataset_are_refused(tmp_path: Path) -> None:
    assert isinstance(check("--dataset", "msr_action3d", "--data", tmp_path, code=1)[1], DatasetError)
    assert isinstance(check("--dataset", "synthetic", code=1)[1], SettingsError)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    for name in ("001", "002", "003"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.xyz").write_text("0 0 1\n1 0 1\n0 1 1\n")
    return tmp_path


def test_rows_and_sequences_without_a_partner_are_counted_and_named(own: Path) -> None:
    (own / "labels.csv").write_text("sequence,split\n001,train\n2,test\n9,test\n")
    text, _ = check("--dataset", "folder", "--data", own)
    assert "note: labels.csv: 2 rows without a sequence: 2, 9" in text
    assert "note: labels.csv: 2 sequences without a row: 002, 003" in text
    assert "'2' resembles '002'" in text
    record = json.loads(check("--dataset", "folder", "--data", own, "--json")[0])
    assert record["joins"] == [{"list": "labels.csv", "matched": 1, "extra_rows": ["2", "9"], "extra_sequences": ["002", "003"]}]


def test_labels_of_nothing_are_an_error_after_the_report(own: Path) -> None:
    (own / "labels.csv").write_text("sequence,split\n1,train\n2,test\n")
    text, error = check("--dataset", "folder", "--data", own, code=1)
    assert "labels.csv: 3 sequences without a row: 001, 002, 003" in text
    assert isinstance(error, DatasetError)
    assert "none of its 2 rows names a sequence" in str(error)


def test_sizes_are_those_behind_links(own: Path) -> None:
    *_, size = disk_bytes(own)
    (own / "flat").mkdir()
    for name in ("001", "002", "003"):
        (own / "flat" / name).symlink_to(own / name)
    (own / "001" / "up").symlink_to(own)
    assert list(disk_bytes(own / "flat" / "002"))[-1] == size / 3
    assert list(disk_bytes(own))[-1] == size


def test_damage_of_the_users_own_files_sends_nobody_to_fetch(own: Path) -> None:
    (own / "002" / "0.xyz").write_text("no numbers")
    text, _ = check("--dataset", "folder", "--data", own, code=1)
    assert "damaged: " in text
    assert "to fetch" not in text


def test_a_folder_that_is_not_there_is_said_in_words_of_what_it_holds(own: Path) -> None:
    for name, words in (("folder", "a folder for each sequence"), ("msr_action3d", "files named a01_s01_e01_sdepth.bin")):
        _, error = check("--dataset", name, "--data", own / "nowhere", code=1)
        assert f"a folder that holds {words}" in str(error)


def test_the_estimate_is_near_what_was_measured() -> None:
    """The store of 10,411 MSR-Action3D frames with 192 channels took 364.8 MB (docs/benchmarks)."""
    assert estimate_cache_bytes(10_411, 4096.0, 192, 1)[0] == pytest.approx(364.8e6, rel=0.15)


def test_the_estimate_counts_points_and_views(own: Path) -> None:
    """A view adds two bytes a point, and its own rows; there are never more rows than points."""
    one, eight = (estimate_cache_bytes(1, 65_536.0, 384, views) for views in (1, 8))
    assert one == pytest.approx((65_536 * 0.6 * 8 + 50 * 768, 65_536 * 0.6 * 8 + 256 * 768), abs=1)
    assert eight == pytest.approx((65_536 * 0.6 * 22 + 8 * 50 * 768, 65_536 * 0.6 * 22 + 8 * 256 * 768), abs=1)
    few = json.loads(check("--dataset", "folder", "--data", own, "--points", 2, "--views", 3, "--json")[0])
    assert few["cache_bytes"] == pytest.approx([3 * (2 * 0.6 * 12 + 3 * 2 * 768)] * 2, abs=1)
    assert "(--points 2 --views 3, 384 channels)" in check("--dataset", "folder", "--data", own, "--points", 2, "--views", 3)[0]
