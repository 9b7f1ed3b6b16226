"""The NTU RGB+D reader: masked, raw and converted depth, hand-computed geometry, intrinsics from skeletons, protocols, and damage."""

import os
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.datasets.ntu_rgbd.actions import ACTION_NAMES
from cross4d_cache.datasets.ntu_rgbd.dataset import NTURGBD
from cross4d_cache.datasets.ntu_rgbd.intrinsics import CONSTANTS, fit_pinhole
from cross4d_cache.datasets.ntu_rgbd.samples import (
    NUM_SAMPLES,
    PERFORMERS,
    SPLITS,
    SPLITS_120,
    TRAINING_SUBJECTS,
    TRAINING_SUBJECTS_120,
    Sample,
    names_of_60,
)
from cross4d_cache.datasets.ntu_rgbd.skeleton import read_skeleton
from cross4d_cache.errors import DatasetError, SettingsError
from cross4d_cache.types import PointCloudSequence
from tests.cross4d_cache.datasets.examples.msr_action3d import object_array
from tests.cross4d_cache.datasets.examples.ntu_rgbd import CX, CY, FX, FY, depth_of, published_points, skeleton_text, write_images
from tests.cross4d_cache.datasets.mutation import mutate

NAME = "S001C002P003R002A013"


def open_ntu(root: Path, **options: object) -> NTURGBD:
    return NTURGBD(root, NTURGBD.Options.model_validate(options))


def read_only(dataset: NTURGBD) -> PointCloudSequence:
    [info] = dataset.sequences()
    return dataset.read(info)


def some_depth(num_frames: int = 2) -> np.ndarray:
    """A few hundred pixels a frame."""
    rng = np.random.default_rng(0)
    depth = np.zeros((num_frames, 424, 512), np.uint16)
    depth[:, 5::31, 3::17] = rng.integers(500, 8000, depth[:, 5::31, 3::17].shape)
    return depth


def write_masked(root: Path, name: str = NAME, depth: np.ndarray | None = None) -> Path:
    folder = root / "nturgb+d_depth_masked" / name
    write_images(folder, some_depth() if depth is None else depth, "MDepth")
    return folder


def write_skeleton(root: Path, text: str, name: str = NAME) -> Path:
    path = root / "nturgb+d_skeletons" / f"{name}.skeleton"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode())
    return path


def test_pixels_become_metres_by_hand(tmp_path: Path) -> None:
    depth = np.zeros((2, 424, 512), np.uint16)
    depth[0, 0, 0] = 3000  # top left, 3 m away
    depth[1, 423, 511] = 1500  # bottom right, 1.5 m away
    depth[1, 208, 256] = 65535  # almost on the axis, as far as 16 bits go
    write_masked(tmp_path, depth=depth)
    sequence = read_only(open_ntu(tmp_path))
    # camera 2: x = (u - 256.35) / 366.9 z and y = (v - 208.4) / 367.5 z, y down
    np.testing.assert_allclose(sequence.frame(0), [[-2.096075, -1.701224, 3.0]], atol=2e-6)
    np.testing.assert_allclose(sequence.frame(1), [[-0.062517, -0.071331, 65.535], [1.041088, 0.875918, 1.5]], atol=2e-6)


@pytest.mark.parametrize("inner", [True, False])
@pytest.mark.parametrize(("form", "folder", "prefix"), [("masked", "nturgb+d_depth_masked", "MDepth"), ("raw", "nturgb+d_depth", "Depth")])
def test_both_kinds_of_images_are_found_from_either_folder(tmp_path: Path, form: str, folder: str, prefix: str, inner: bool) -> None:
    write_images(tmp_path / folder / NAME, some_depth(), prefix)
    write_skeleton(tmp_path, skeleton_text(5))
    dataset = open_ntu(tmp_path / folder if inner else tmp_path)
    assert dataset.form == form
    [info] = dataset.sequences()
    assert (info.id, info.num_frames, info.action, info.subject, info.camera) == (NAME, 2, 12, 3, 2)
    assert dataset.action_names[info.action] == "tear up paper"
    assert dataset.pinhole(info).cx == pytest.approx(CX, abs=1e-3)
    assert dataset.read(info).num_frames == 2


def test_several_forms_need_a_choice(tmp_path: Path) -> None:
    write_masked(tmp_path)
    write_images(tmp_path / "nturgb+d_depth" / NAME, some_depth(3), "Depth")
    np.savez(tmp_path / f"{NAME}.npz", data=object_array(published_points(some_depth(4))))
    np.savez(tmp_path / "statistics.npz", mean=np.zeros(3))
    with pytest.raises(SettingsError, match=r"masked, raw, npz(.|\n)*`dataset.options` form=masked"):
        open_ntu(tmp_path).sequences()
    assert [open_ntu(tmp_path, form=form).sequences()[0].num_frames for form in ("masked", "raw", "npz")] == [2, 3, 4]


@pytest.mark.parametrize("with_skeleton", [True, False])
def test_images_and_npz_of_a_recording_give_the_same_points(tmp_path: Path, with_skeleton: bool) -> None:
    write_masked(tmp_path)
    (tmp_path / "npz").mkdir()
    np.savez_compressed(tmp_path / "npz" / f"{NAME}.npz", data=object_array(published_points(some_depth())))
    if with_skeleton:
        write_skeleton(tmp_path, skeleton_text(5))
    images, converted = read_only(open_ntu(tmp_path)), read_only(open_ntu(tmp_path / "npz"))
    assert images.info == converted.info
    np.testing.assert_array_equal(images.point_offsets, converted.point_offsets)
    np.testing.assert_allclose(converted.points, images.points, atol=4e-6)


def test_npz_files_in_another_unit_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / f"{NAME}.npz", data=object_array([points * 100 for points in published_points(some_depth())]))
    with pytest.raises(DatasetError, match=rf"{NAME}\.npz: a coordinate of (.|\n)*65535"):
        read_only(open_ntu(tmp_path))


def test_names_give_the_sides_of_all_protocols(tmp_path: Path) -> None:
    names = ("S001C001P001R001A001", "S002C002P003R001A060", "S018C003P103R002A061")
    for name in names:
        write_masked(tmp_path, name, some_depth(1))
    dataset = open_ntu(tmp_path)
    assert [dict(info.splits) for info in dataset.sequences()] == [
        {"cross-subject": "train", "cross-view": "test", "cross-subject-120": "train", "cross-setup": "test"},
        {"cross-subject": "test", "cross-view": "train", "cross-subject-120": "test", "cross-setup": "train"},
        {"cross-subject-120": "train", "cross-setup": "train"},
    ]
    assert dataset.action_names == ACTION_NAMES
    assert dataset.expected().num_sequences == 114_480


def test_a_folder_of_60_has_no_protocols_of_120(tmp_path: Path) -> None:
    write_masked(tmp_path)
    dataset = open_ntu(tmp_path)
    assert dict(dataset.sequences()[0].splits) == {"cross-subject": "test", "cross-view": "train"}
    assert dataset.action_names == ACTION_NAMES[:60]
    assert dataset.expected().splits == SPLITS
    assert dataset.expected().num_sequences == NUM_SAMPLES == len(set(dataset.expected().ids))


def test_the_names_of_60_have_the_published_numbers() -> None:
    samples = [sample for name in names_of_60() if (sample := Sample.parse(name))]
    counts = Counter(side for sample in samples for side in sample.splits(with_120=False).items())
    assert counts == {(protocol, side): count for protocol, sides in SPLITS.items() for side, count in sides.items()}
    assert sum(len(performers) for performers in PERFORMERS.values()) == 158
    assert len({performer for performers in PERFORMERS.values() for performer in performers}) == 40
    assert all(sum(sides.values()) == 114_480 for sides in SPLITS_120.values())
    assert (len(TRAINING_SUBJECTS), len(TRAINING_SUBJECTS_120)) == (20, 53)


def test_classes_stand_in_the_official_order() -> None:
    assert len(set(ACTION_NAMES)) == 120
    official = {
        1: "drink water",
        27: "jump up",
        43: "fall down",
        60: "walk apart",
        61: "put on headphone",
        102: "side kick",
        112: "high-five",
    }
    assert {number: ACTION_NAMES[number - 1] for number in official} == official


@pytest.mark.parametrize("name", ["S001C001P001R001A121", "S001C001P001R001A000", "S001C001P001R001A001_rgb", "S1C1P1R1A1", "notes"])
def test_other_folders_are_no_samples(tmp_path: Path, name: str) -> None:
    write_masked(tmp_path)
    write_masked(tmp_path, name)
    assert [info.id for info in open_ntu(tmp_path).sequences()] == [NAME]


def test_lists_and_missing_files_tell_the_samples_without_skeletons(tmp_path: Path) -> None:
    other, third = "S001C001P001R001A007", "S001C001P001R001A008"
    for name in (NAME, other, third):
        write_masked(tmp_path, name, some_depth(1))
        write_skeleton(tmp_path, skeleton_text(5), name)
    (tmp_path / "nturgb+d_skeletons" / f"{other}.skeleton").unlink()
    with pytest.raises(SettingsError, match="NTU_RGBD_samples_with_missing_skeletons"):
        open_ntu(tmp_path, skip_missing_skeletons=True).sequences()
    listed = "2 of the captured samples have missing skeletons.\r\n\r\n" + "\r\n".join([third, "S017C003P020R001A059"])
    (tmp_path / "NTU_RGBD_samples_with_missing_skeletons.txt").write_bytes(listed.encode())
    for root in (tmp_path, tmp_path / "nturgb+d_depth_masked"):
        dataset = open_ntu(root)
        assert dataset.listed_without_skeletons == {third, "S017C003P020R001A059"}
        assert dataset.without_skeletons() == [other, third]
        assert len(dataset.sequences()) == 3
        skipping = open_ntu(root, skip_missing_skeletons=True)
        assert [info.id for info in skipping.sequences()] == [other, NAME]
        assert skipping.expected().num_sequences == 56_878
        assert skipping.expected().splits["cross-subject"] == {"train": 40_319, "test": 16_559}
        assert third not in skipping.expected().ids


def test_a_skeleton_gives_the_camera_and_survives_nonsense(tmp_path: Path) -> None:
    lines = skeleton_text(8).splitlines()
    for number in range(5, len(lines), 9):  # a third of the joints, roughly
        fields = lines[number].split()
        if len(fields) == 12:
            fields[3:5] = [("-1.#IND", "0"), ("nan", "inf"), ("300", "2147480000"), ("1e300", "5")][number % 4]
            lines[number] = " ".join(fields)
    frames = read_skeleton(write_skeleton(tmp_path, "\n".join(lines) + "\n"))
    assert [len(bodies) for bodies in frames] == [1] * 8
    assert frames[0][0].id == "72057594037931648"
    pinhole = fit_pinhole(frames)
    assert pinhole is not None
    np.testing.assert_allclose([pinhole.fx, pinhole.fy, pinhole.cx, pinhole.cy], [FX, FY, CX, CY], atol=0.01)


@pytest.mark.parametrize("text", ["0\n", "3\n0\n0\n0\n", skeleton_text(3), skeleton_text(8).replace(" 2\r\n", " 1\r\n")])
def test_skeletons_that_do_not_tell_the_camera_leave_it_to_the_table(tmp_path: Path, text: str) -> None:
    write_masked(tmp_path)
    write_skeleton(tmp_path, text)
    dataset = open_ntu(tmp_path)
    [info] = dataset.sequences()
    assert dataset.pinhole(info) == CONSTANTS[2]
    with pytest.raises(DatasetError, match=rf"{NAME}\.skeleton"):
        open_ntu(tmp_path, intrinsics="skeleton").read(info)


def test_intrinsics_and_the_place_of_skeletons_are_options(tmp_path: Path) -> None:
    write_masked(tmp_path)
    write_skeleton(tmp_path, skeleton_text(5)).parent.rename(tmp_path / "elsewhere")
    [info] = open_ntu(tmp_path).sequences()
    assert open_ntu(tmp_path).pinhole(info) == CONSTANTS[2]
    elsewhere = str(tmp_path / "elsewhere")
    for intrinsics in ("auto", "skeleton"):
        assert open_ntu(tmp_path, skeletons=elsewhere, intrinsics=intrinsics).pinhole(info).cy == pytest.approx(CY, abs=1e-3)
    assert open_ntu(tmp_path, skeletons=elsewhere, intrinsics="constants").pinhole(info) == CONSTANTS[2]
    with pytest.raises(SettingsError, match="nowhere"):
        open_ntu(tmp_path, skeletons=str(tmp_path / "nowhere")).pinhole(info)


def test_skeleton_damage_is_named_by_line_and_leaves_another_way(tmp_path: Path) -> None:
    write_masked(tmp_path)
    text = skeleton_text(5)
    for damaged, reason in (
        (text[:4000], r"line \d+: .*; the file ends at byte 4000"),
        ("", "line 0: the text ends"),
        ("2\n99999999999\n", "line 2: '99999999999'"),
        (text.replace("\n25\r", "\n24\r", 1), "line 4: a body that has not 25 joints"),
        (text.replace("-0.17", "x", 1), "line 5: could not convert"),
        (text + "more\n", "line 141: more text"),
    ):
        write_skeleton(tmp_path, damaged)
        with pytest.raises(DatasetError, match=rf"{NAME}\.skeleton: {reason}(.|\n)*intrinsics=constants"):
            read_only(open_ntu(tmp_path))
    assert read_only(open_ntu(tmp_path, intrinsics="constants")).num_frames == 2


@pytest.mark.parametrize(("gone", "named"), [((1,), "00000001"), ((2,), "00000002"), ((2, 3), "00000002"), ((1, 2, 3, 4), "00000001")])
def test_the_first_missing_image_is_named(tmp_path: Path, gone: tuple[int, ...], named: str) -> None:
    folder = write_masked(tmp_path, depth=some_depth(4))
    write_masked(tmp_path, "S001C001P001R001A001", some_depth(1))
    for number in gone:
        (folder / f"MDepth-{number:08}.png").unlink()
    listing = open_ntu(tmp_path).listing
    assert [info.id for info in listing.sequences] == ["S001C001P001R001A001"]
    [damage] = [item.error for item in listing.damaged]
    assert f"{NAME}/MDepth-{named}.png is missing" in damage.found


def test_images_that_change_after_the_listing_are_refused(tmp_path: Path) -> None:
    folder = write_masked(tmp_path, depth=some_depth(3))
    dataset = open_ntu(tmp_path)
    [info] = dataset.sequences()
    image = folder / "MDepth-00000002.png"
    intact = image.read_bytes()
    image.write_bytes(intact[:-30])
    with pytest.raises(DatasetError, match=rf"{NAME}/MDepth-00000002\.png.*byte {len(intact) - 30}"):
        dataset.read(info)
    (folder / "MDepth-00000003.png").unlink()
    with pytest.raises(DatasetError, match="2 frames"):
        dataset.read(info)


def test_a_folder_without_samples_says_what_belongs_there(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    with pytest.raises(DatasetError, match=r"holds no NTU RGB\+D sequences(.|\n)*MDepth"):
        open_ntu(tmp_path).sequences()


def test_frames_are_streamed(tmp_path: Path) -> None:
    """A frame of a whole view takes about 2.6 MB as points."""
    folder = tmp_path / NAME
    write_images(folder, depth_of(NAME, 1, room=True), "Depth")
    for number in range(2, 9):
        os.link(folder / "Depth-00000001.png", folder / f"Depth-{number:08}.png")
    dataset = open_ntu(tmp_path)
    [info] = dataset.sequences()
    for _ in dataset.frames(info):
        tracemalloc.start()
        break
    assert sum(len(frame.points) == 424 * 512 for frame in dataset.frames(info)) == 8
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2_600_000


@pytest.mark.parametrize("form", ["masked", "npz", "skeleton"])
def test_damaged_files_read_or_raise_dataset_errors(tmp_path: Path, form: str) -> None:
    depth = some_depth(1)
    folder = write_masked(tmp_path, depth=depth)
    (tmp_path / "npz").mkdir()
    np.savez_compressed(tmp_path / "npz" / f"{NAME}.npz", data=object_array(published_points(depth)))
    skeleton = write_skeleton(tmp_path, skeleton_text(5))
    path = {"masked": folder / "MDepth-00000001.png", "npz": tmp_path / "npz" / f"{NAME}.npz", "skeleton": skeleton}[form]
    root = tmp_path / "npz" if form == "npz" else tmp_path
    intact, rng, refusals, read = path.read_bytes(), np.random.default_rng(5), [], 0
    for _ in range(150):
        path.write_bytes(intact)
        path.write_bytes(mutate(path, rng))
        try:
            assert np.isfinite(read_only(open_ntu(root)).points).all()
            read += 1
        except DatasetError as error:
            refusals.append(error.found)
    assert read > 0
    assert len(refusals) > 40
    assert all(NAME in found for found in refusals)


@pytest.fixture(scope="module")
def real_folder() -> Path:
    root = os.environ.get("CROSS4D_REAL_DATA")
    if not root:
        pytest.skip("CROSS4D_REAL_DATA is not set: the folder that holds ntu_rgbd/nturgb+d_depth_masked")
    return Path(root) / "ntu_rgbd"


def test_a_real_sample_is_people_in_metres(real_folder: Path) -> None:
    """Two people who shake hands, so the width is that of both."""
    dataset = open_ntu(real_folder)
    [info] = dataset.sequences()
    assert (info.id, info.num_frames, dataset.action_names[info.action]) == ("S001C001P001R001A058", 71, "shake hands")
    assert dataset.without_skeletons() == [info.id]
    for frame in list(dataset.frames(info))[::10]:
        assert 5_000 < len(frame.points) < 20_000
        low, high = np.percentile(frame.points, [1, 99], axis=0)
        width, height, thickness = high - low
        assert 1.3 < height < 2.2
        assert 0.2 < width < 2.2
        assert 0.1 < thickness < 2.2
        assert 1.5 < low[2] < high[2] < 5


def test_real_skeletons_tell_their_camera(real_folder: Path) -> None:
    paths = sorted((real_folder / "nturgb+d_skeletons").iterdir())
    assert paths
    for path in paths:
        frames = read_skeleton(path)
        pinhole = fit_pinhole(frames)
        assert pinhole is not None
        assert 365 < pinhole.fx < 367.5
        assert 366 < pinhole.fy < 368
        assert min(abs(pinhole.cx - 256.3), abs(pinhole.cx - 262.5)) < 0.2
        assert min(abs(pinhole.cy - 208.5), abs(pinhole.cy - 209.7)) < 0.2
        joints = np.concatenate([body.joints for bodies in frames for body in bodies])
        x, y, z, column, row = joints[joints[:, 11] == 2, :5].T
        assert np.sqrt(np.mean((pinhole.cx + pinhole.fx * x / z - column) ** 2)) < 0.2
        assert np.sqrt(np.mean((pinhole.cy - pinhole.fy * y / z - row) ** 2)) < 0.2


def test_the_official_lists_agree_with_the_rules(real_folder: Path) -> None:
    lines = (real_folder / "ntu60.list").read_text().splitlines()
    assert sorted(line.split()[0] for line in lines) == names_of_60()
    dataset = open_ntu(real_folder)
    assert len(dataset.listed_without_skeletons) == 302
    assert dataset.listed_without_skeletons < set(names_of_60())
    assert open_ntu(real_folder, skip_missing_skeletons=True).expected().num_sequences == 56_578


def test_skeletons_of_none_of_the_samples_are_refused(tmp_path: Path) -> None:
    write_masked(tmp_path)
    (tmp_path / "elsewhere" / "deeper").mkdir(parents=True)
    with pytest.raises(SettingsError, match="holds no skeleton of the 1 samples here"):
        open_ntu(tmp_path, skeletons=str(tmp_path / "elsewhere")).sequences()
    assert len(open_ntu(tmp_path, skeletons=str(tmp_path / "elsewhere"), intrinsics="constants").sequences()) == 1


@pytest.mark.parametrize(("text", "words"), [("1 of the samples:\n", "names no sample"), ("s001c002p003r002a013\n", "'s001c002")])
def test_a_list_of_no_samples_is_refused(tmp_path: Path, text: str, words: str) -> None:
    write_masked(tmp_path)
    (tmp_path / "NTU_RGBD_samples_with_missing_skeletons.txt").write_text(text)
    with pytest.raises(DatasetError, match=words):
        open_ntu(tmp_path, skip_missing_skeletons=True).sequences()


def test_names_that_only_resemble_samples_are_told(tmp_path: Path) -> None:
    write_masked(tmp_path)
    (tmp_path / "nturgb+d_depth_masked" / "s001c001p001r001a001").mkdir()
    assert "not called like S001C001P001R001A001: s001c001p001r001a001" in open_ntu(tmp_path).notes()[-1]


def test_skeletons_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    """They decide the intrinsics, so a build must not go on with others."""
    write_masked(tmp_path)
    bare = open_ntu(tmp_path).fingerprint()
    constants = open_ntu(tmp_path, intrinsics="constants").fingerprint()
    write_skeleton(tmp_path, "0\n")
    assert open_ntu(tmp_path).fingerprint() != bare
    assert open_ntu(tmp_path, intrinsics="constants").fingerprint() == constants
    [note] = open_ntu(tmp_path, skeletons=str(tmp_path), intrinsics="skeleton").notes()
    assert "cannot be read with intrinsics=skeleton" in note
