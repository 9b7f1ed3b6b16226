"""The MSR-Action3D reader: both body variants, the `.npz` form, hand-computed geometry, splits, and damaged files."""

import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.datasets import Dataset, open_dataset
from cross4d_cache.datasets.coverage import SideCoverage, clip_coverage
from cross4d_cache.datasets.msr_action3d import MSRAction3D, read_depth, read_header
from cross4d_cache.errors import DatasetError, SettingsError
from cross4d_cache.types import PointCloudSequence, SequenceInfo
from tests.cross4d_cache.datasets.examples.msr_action3d import object_array, published_points, write_bin
from tests.cross4d_cache.datasets.mutation import mutate as mutate_file

WriteMSR = Callable[..., None]


def random_depth(frames: int = 3, height: int = 24, width: int = 32) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.where(rng.random((frames, height, width)) < 0.2, rng.integers(290, 650, (frames, height, width)), 0).astype(np.uint32)


def read_only(folder: Path) -> PointCloudSequence:
    dataset = open_dataset("msr_action3d", folder)
    [info] = dataset.sequences()
    return dataset.read(info)


@pytest.mark.parametrize("player_rows", [False, True])
def test_depth_comes_back_from_either_variant(tmp_path: Path, write_msr: WriteMSR, player_rows: bool) -> None:
    write_msr(tmp_path / "x.bin", random_depth(), player_rows=player_rows)
    header = read_header(tmp_path / "x.bin")
    frames = [read_depth(tmp_path / "x.bin", header, number) for number in range(header.frames)]
    np.testing.assert_array_equal(np.stack(frames), random_depth())


def test_both_variants_give_the_same_points(tmp_path: Path, write_msr: WriteMSR) -> None:
    sequences = []
    for name, player_rows in (("plain", False), ("players", True)):
        (tmp_path / name).mkdir()
        write_msr(tmp_path / name / "a07_s03_e02_sdepth.bin", random_depth(), player_rows=player_rows)
        sequences.append(read_only(tmp_path / name))
    np.testing.assert_array_equal(sequences[0].points, sequences[1].points)
    np.testing.assert_array_equal(sequences[0].point_offsets, sequences[1].point_offsets)


def test_pixels_become_metres_by_hand(tmp_path: Path, write_msr: WriteMSR) -> None:
    depth = np.zeros((2, 240, 320), np.uint32)
    depth[0, 120, 160] = 400  # on the axis, 2 m away
    depth[1, 0, 0] = 600  # top left, 3 m away
    depth[1, 239, 319] = 290  # bottom right, 1.45 m away
    write_msr(tmp_path / "a01_s01_e01_sdepth.bin", depth)
    sequence = read_only(tmp_path)
    np.testing.assert_allclose(sequence.frame(0), [[0, 0, 2.0]], atol=1e-6)
    # x = (u - 160) / 285.62 * z and y = (v - 120) / 285.62 * z, y down
    np.testing.assert_allclose(sequence.frame(1), [[-1.680554, -1.260416, 3.0], [0.807191, 0.604124, 1.45]], atol=2e-6)


def test_points_follow_raster_order_and_background_is_left_out(tmp_path: Path, write_msr: WriteMSR) -> None:
    depth = np.zeros((1, 3, 4), np.uint32)
    depth[0, 2, 1], depth[0, 0, 3], depth[0, 2, 0] = 300, 301, 302
    write_msr(tmp_path / "a01_s01_e01_sdepth.bin", depth)
    assert np.rint(read_only(tmp_path).points[:, 2] / 0.005).tolist() == [301, 302, 300]


@pytest.fixture
def listing(tmp_path: Path, write_msr: WriteMSR) -> Dataset:
    for name in ("a20_s10_e03", "a01_s01_e01", "a05_s04_e02", "a05_s06_e01"):
        write_msr(tmp_path / f"{name}_sdepth.bin", random_depth(frames=int(name[5:7])))
    (tmp_path / "a01_s01_e01_skeleton3D.txt").write_text("not a sequence")
    return open_dataset("msr_action3d", tmp_path)


def test_listing_is_in_name_order_with_lengths_from_headers(listing: Dataset) -> None:
    assert [(info.id, info.num_frames) for info in listing.sequences()] == [
        ("a01_s01_e01", 1),
        ("a05_s04_e02", 4),
        ("a05_s06_e01", 6),
        ("a20_s10_e03", 10),
    ]


def test_files_that_are_called_otherwise_are_told(tmp_path: Path) -> None:
    for name in ("a01_s01_e01_sdepth.bin", "a1_s01_e01_sdepth.bin", "A01_s02_e01_sdepth.BIN", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    [note] = open_dataset("msr_action3d", tmp_path).notes()
    assert note.endswith(": A01_s02_e01_sdepth.BIN, a1_s01_e01_sdepth.bin")


def test_names_give_classes_and_subjects(listing: Dataset) -> None:
    named = [(listing.action_names[info.action], info.subject) for info in listing.sequences()]
    assert named == [("high arm wave", 1), ("forward punch", 4), ("forward punch", 6), ("pickup and throw", 10)]
    assert len(listing.action_names) == len(set(listing.action_names)) == 20


def test_splits_are_by_subject(listing: Dataset) -> None:
    assert [dict(info.splits) for info in listing.sequences()] == [
        {"cross-subject": "train", "development": "train"},
        {"cross-subject": "train", "development": "test"},
        {"cross-subject": "test"},
        {"cross-subject": "test"},
    ]
    assert listing.protocols == ("cross-subject", "development")


def test_a_frame_without_foreground_is_named(tmp_path: Path, write_msr: WriteMSR) -> None:
    depth = random_depth()
    depth[1] = 0
    write_msr(tmp_path / "a01_s01_e01_sdepth.bin", depth)
    with pytest.raises(DatasetError, match="a01_s01_e01: frame 1 has no points"):
        read_only(tmp_path)


def test_a_file_that_changed_its_length_since_the_listing_is_refused(tmp_path: Path, write_msr: WriteMSR) -> None:
    write_msr(tmp_path / "a01_s01_e01_sdepth.bin", random_depth(3))
    dataset = open_dataset("msr_action3d", tmp_path)
    [info] = dataset.sequences()
    write_msr(tmp_path / "a01_s01_e01_sdepth.bin", random_depth(4))
    with pytest.raises(DatasetError, match="4 frames"):
        dataset.read(info)


def test_a_file_that_vanished_since_the_listing_is_refused(tmp_path: Path, write_msr: WriteMSR) -> None:
    write_msr(tmp_path / "a01_s01_e01_sdepth.bin", random_depth(3))
    dataset = open_dataset("msr_action3d", tmp_path)
    [info] = dataset.sequences()
    (tmp_path / "a01_s01_e01_sdepth.bin").unlink()
    with pytest.raises(DatasetError, match="cannot be read"):
        dataset.read(info)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a01_s01_e01_sdepth.bin").mkdir()
    with pytest.raises(DatasetError, match="cannot be read"):
        open_dataset("msr_action3d", tmp_path).sequences()


def test_depths_that_no_sensor_gives_are_refused(tmp_path: Path, write_msr: WriteMSR) -> None:
    depth = random_depth()
    depth[2, 5, 5] = 400 + (1 << 24)
    write_msr(tmp_path / "a01_s01_e01_sdepth.bin", depth)
    with pytest.raises(DatasetError, match="frame 2"):
        read_only(tmp_path)


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    kind = rng.integers(5)
    if kind == 0:
        return data[: rng.integers(len(data))]
    if kind == 1:
        return data + rng.bytes(int(rng.integers(1, 5000)))
    if kind == 2:  # another header on the same body
        return struct.pack("<3I", *rng.choice([0, 1, 2, 3, 24, 32, 2**16, 2**31, 2**32 - 1], 3).tolist()) + data[12:]
    changed = bytearray(data)
    limit = 12 if kind == 3 else len(data)
    for place in rng.integers(0, limit, int(rng.integers(1, 4))):
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


def test_damaged_files_read_or_raise_dataset_errors_and_take_no_memory(tmp_path: Path, write_msr: WriteMSR) -> None:
    path = tmp_path / "a01_s01_e01_sdepth.bin"
    rng = np.random.default_rng(11)
    read, refusals = 0, []
    tracemalloc.start()
    for number in range(400):
        write_msr(path, random_depth(frames=2, height=6, width=8), player_rows=number % 2 == 0)
        path.write_bytes(mutate(path.read_bytes(), rng))
        try:
            sequence = read_only(tmp_path)
            assert np.isfinite(sequence.points).all()
            read += 1
        except DatasetError as error:
            refusals.append(str(error))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24  # no header makes the reader allocate more than the file accounts for
    assert read > 10
    assert len(refusals) > 100
    assert all("a01_s01_e01" in message for message in refusals)


def write_npz(path: Path, depth: np.ndarray) -> None:
    np.savez_compressed(path, point_clouds=object_array(published_points(depth)))


def test_both_forms_of_a_recording_give_the_same_points(tmp_path: Path) -> None:
    depth = np.zeros((3, 240, 320), np.uint32)
    depth[:, ::7, ::5] = np.random.default_rng(0).integers(290, 650, (3, 35, 64))
    (tmp_path / "bin").mkdir()
    (tmp_path / "npz").mkdir()
    write_bin(tmp_path / "bin" / "a01_s02_e03_sdepth.bin", depth)
    write_npz(tmp_path / "npz" / "a01_s02_e03_sdepth.npz", depth)
    official, converted = read_only(tmp_path / "bin"), read_only(tmp_path / "npz")
    assert official.info == converted.info
    np.testing.assert_array_equal(official.point_offsets, converted.point_offsets)
    np.testing.assert_allclose(converted.points, official.points, atol=1e-6)


def test_frames_of_equal_size_may_have_become_one_dense_array(tmp_path: Path) -> None:
    depth = np.full((3, 6, 8), 400, np.uint32)
    np.savez_compressed(tmp_path / "a01_s02_e03_sdepth.npz", point_clouds=np.stack(published_points(depth)))
    write_bin(tmp_path / "a01_s02_e03_sdepth.bin", depth)
    [dense, official] = [MSRAction3D(tmp_path, MSRAction3D.Options(form=form)) for form in ("npz", "bin")]
    [info] = dense.sequences()
    np.testing.assert_allclose(dense.read(info).points, official.read(info).points, atol=1e-6)


def test_a_folder_with_both_forms_needs_a_choice(tmp_path: Path) -> None:
    write_bin(tmp_path / "a01_s02_e03_sdepth.bin", random_depth())
    write_npz(tmp_path / "a01_s06_e01_sdepth.npz", random_depth(2))
    with pytest.raises(SettingsError, match=r"`dataset.options` form=bin or npz"):
        open_dataset("msr_action3d", tmp_path).sequences()
    for form, name in (("bin", "a01_s02_e03"), ("npz", "a01_s06_e01")):
        assert [info.id for info in open_dataset("msr_action3d", tmp_path, {"form": form}).sequences()] == [name]


def test_strides_pick_frames_of_npz_files(tmp_path: Path) -> None:
    write_npz(tmp_path / "a01_s06_e01_sdepth.npz", random_depth(5))
    plain, strided = (open_dataset("msr_action3d", tmp_path, options) for options in ({}, {"frame_stride": "2"}))
    whole, picked = (dataset.read(dataset.sequences()[0]) for dataset in (plain, strided))
    assert picked.num_frames == 3
    for number in range(3):
        np.testing.assert_array_equal(picked.frame(number), whole.frame(2 * number))


def test_an_npz_file_that_changed_its_length_since_the_listing_is_refused(tmp_path: Path) -> None:
    write_npz(tmp_path / "a01_s06_e01_sdepth.npz", random_depth(5))
    dataset = open_dataset("msr_action3d", tmp_path)
    [info] = dataset.sequences()
    write_npz(tmp_path / "a01_s06_e01_sdepth.npz", random_depth(4))
    with pytest.raises(DatasetError, match="4 frames"):
        dataset.read(info)


def test_damaged_npz_files_read_or_raise_dataset_errors(tmp_path: Path) -> None:
    path = tmp_path / "a01_s01_e01_sdepth.npz"
    write_npz(path, random_depth(frames=2, height=6, width=8))
    intact, rng, refusals = path.read_bytes(), np.random.default_rng(12), []
    for _ in range(200):
        path.write_bytes(intact)
        path.write_bytes(mutate_file(path, rng))
        try:
            assert np.isfinite(read_only(tmp_path).points).all()
        except DatasetError as error:
            refusals.append(str(error))
    assert 50 < len(refusals) < 200
    assert all("a01_s01_e01" in message for message in refusals)


def test_coverage_tells_the_videos_without_a_full_clip() -> None:
    lengths = {1: 30, 2: 23, 5: 24, 6: 24, 9: 13}
    infos = [
        SequenceInfo(id=f"s{subject}", num_frames=length, splits={"cross-subject": "train" if subject < 6 else "test"})
        for subject, length in lengths.items()
    ]
    outside = SequenceInfo(id="other", num_frames=1, splits={"development": "train"})
    sides = clip_coverage([*infos, outside], "cross-subject", 24).sides
    assert sides == {"train": SideCoverage(3, 2, ("s2",)), "test": SideCoverage(2, 1, ("s9",))}
    assert list(clip_coverage(infos, "cross-subject", 4).sides) == ["train", "test"]
    assert clip_coverage(infos, "development", 4).sides == {}


def test_a_complete_copy_has_the_published_numbers_of_videos(tmp_path: Path) -> None:
    expected = MSRAction3D(tmp_path, MSRAction3D.Options()).expected()
    assert expected.num_sequences == 567
    assert expected.splits == {"cross-subject": {"train": 270, "test": 297}}


@pytest.fixture(scope="module")
def real_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real sequences, converted from the .mat files in which they were found."""
    root = os.environ.get("CROSS4D_REAL_DATA")
    if not root:
        pytest.skip("CROSS4D_REAL_DATA is not set: the folder that holds msr_action3d/*.mat")
    from scipy.io import loadmat

    folder = tmp_path_factory.mktemp("real_msr")
    files = sorted((Path(root) / "msr_action3d").glob("a*_sdepth.mat"))
    assert files
    for file in (files[0], files[-1]):
        depth = loadmat(file)["depth"].transpose(2, 0, 1)
        header = struct.pack("<3I", *(depth.shape[axis] for axis in (0, 2, 1)))
        (folder / f"{file.stem}.bin").write_bytes(header + depth.astype("<u4").tobytes())
    return folder


def test_real_sequences_are_people_in_metres(real_folder: Path) -> None:
    dataset = open_dataset("msr_action3d", real_folder)
    assert len(dataset.sequences()) == 2
    for info in dataset.sequences():
        sequence = dataset.read(info)
        counts = np.diff(sequence.point_offsets)
        assert 2_800 <= counts.min() <= counts.max() <= 9_800
        assert 1.4 < sequence.points[:, 2].min() < sequence.points[:, 2].max() < 3.3
        width, height, thickness = np.median([np.ptp(sequence.frame(t), axis=0) for t in range(sequence.num_frames)], axis=0)
        assert 1.0 < height < 2.2
        assert 0.3 < width < 2.0
        assert 0.1 < thickness < 1.5


def test_both_forms_of_real_sequences_give_the_same_points(real_folder: Path, tmp_path: Path) -> None:
    dataset = open_dataset("msr_action3d", real_folder)
    info = dataset.sequences()[0]
    path = real_folder / f"{info.id}_sdepth.bin"
    header = read_header(path)
    write_npz(tmp_path / f"{info.id}_sdepth.npz", np.stack([read_depth(path, header, number) for number in range(header.frames)]))
    np.testing.assert_allclose(read_only(tmp_path).points, dataset.read(info).points, atol=1e-6)


def test_a_complete_copy_has_567_known_videos(tmp_path: Path) -> None:
    expected = open_dataset("msr_action3d", tmp_path).expected()  # type: ignore[attr-defined]
    ids = set(expected.ids)
    assert len(ids) == len(expected.ids) == 567 == expected.num_sequences
    train = [name for name in ids if int(name[5:7]) <= 5]
    assert expected.splits["cross-subject"] == {"train": len(train), "test": 567 - len(train)} == {"train": 270, "test": 297}


def test_real_videos_are_among_the_known_ones(real_folder: Path) -> None:
    dataset = open_dataset("msr_action3d", real_folder)
    real = {path.name.removesuffix("_sdepth.mat") for path in (Path(os.environ["CROSS4D_REAL_DATA"]) / "msr_action3d").glob("*.mat")}
    assert len(real) == 266
    assert real <= set(dataset.expected().ids)  # type: ignore[attr-defined]


def test_swapped_sizes_and_scaled_points_are_refused(tmp_path: Path, write_msr: WriteMSR) -> None:
    write_msr(tmp_path / "a01_s01_e01_sdepth.bin", random_depth(height=32, width=24))
    with pytest.raises(DatasetError, match="24 pixels wide and 32 high"):
        open_dataset("msr_action3d", tmp_path).sequences()
    (tmp_path / "npz").mkdir()
    metres = np.array([[[0.1, 0.2, 2.0], [0.1, 0.3, 2.1]]])
    np.savez_compressed(tmp_path / "npz" / "a01_s01_e01_sdepth.npz", point_clouds=metres)
    with pytest.raises(DatasetError, match=r"a01_s01_e01_sdepth\.npz: half of frame 0 lies nearer than 2.05 units"):
        read_only(tmp_path / "npz")


def test_names_out_of_range_are_no_sequences(tmp_path: Path, write_msr: WriteMSR) -> None:
    for name in ("a00_s01_e01", "a21_s01_e01", "a01_s11_e01", "a01_s01_e04", "a20_s10_e03"):
        write_msr(tmp_path / f"{name}_sdepth.bin", random_depth())
    assert [info.id for info in open_dataset("msr_action3d", tmp_path).sequences()] == ["a20_s10_e03"]
