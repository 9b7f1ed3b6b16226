"""The HOI4D reader on RGB-D recordings: geometry by hand, labels, voxels, events, folders as people have them, and damage."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cross4d_cache.datasets.hoi4d import HOI4D, voxels
from cross4d_cache.datasets.hoi4d.background import Background
from cross4d_cache.datasets.hoi4d.events import read_events
from cross4d_cache.datasets.hoi4d.folders import read_lists
from cross4d_cache.datasets.hoi4d.intrinsics import read_intrinsics
from cross4d_cache.datasets.hoi4d.labels import EVENT_NAMES, PART_NAMES, classes_of_colours
from cross4d_cache.datasets.hoi4d.trajectory import read_trajectory
from cross4d_cache.datasets.hoi4d.voxels import voxel_means
from cross4d_cache.errors import DatasetError
from cross4d_cache.types import Frame, PointCloudSequence
from tests.cross4d_cache.datasets.examples.hoi4d import EXAMPLES, write_intrinsics, write_log, write_png
from tests.cross4d_cache.datasets.mutation import mutate

NAME = "ZY20210800003/H3/C2/N01/S16/s01/T1"
MATRIX = np.array([[1000.0, 0, 960], [0, 1250, 540], [0, 0, 1]])


def open_folder(root: Path, **options: object) -> HOI4D:
    return HOI4D(root, HOI4D.Options.model_validate(options))


def read_only(root: Path, **options: object) -> PointCloudSequence:
    dataset = open_folder(root, **options)
    [info] = dataset.sequences()
    return dataset.read(info)


def pixels(*values: tuple[int, int, int]) -> np.ndarray:
    """An image of millimetres at (row, column)."""
    image = np.zeros((1080, 1920), np.uint16)
    for row, column, depth in values:
        image[row, column] = depth
    return image


def colours(*values: tuple[int, int, tuple[int, int, int]]) -> np.ndarray:
    """A mask with colours at (row, column)."""
    image = np.zeros((1080, 1920, 3), np.uint8)
    for row, column, colour in values:
        image[row, column] = colour
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recording of two frames of four and one points, without labels; the second camera stands elsewhere."""
    write_png(tmp_path / NAME / "align_depth/00000.png", pixels((540, 960, 1000), (40, 160, 2000), (1079, 1919, 2999), (0, 5, 3000)))
    write_png(tmp_path / NAME / "align_depth/00001.png", pixels((640, 1160, 500)))
    turned = np.array([[0, 0, 1, 1.0], [0, 1, 0, 2.0], [-1, 0, 0, 3.0], [0, 0, 0, 1]])
    write_log(tmp_path / NAME / "3Dseg/output.log", np.stack([np.eye(4), turned]))
    write_intrinsics(tmp_path / "camera_params/ZY20210800003/intrin.npy", MATRIX)
    return tmp_path


def test_pixels_become_metres_by_hand(folder: Path) -> None:
    sequence = read_only(folder, voxel=0)
    # x = (u - cx) z / fx, y = (v - cy) z / fy; rows come first; 3 m and more are cut off
    expected = [[-1.6, -0.8, 2.0], [0, 0, 1.0], [959 * 2.999 / 1000, 539 * 2.999 / 1250, 2.999]]
    np.testing.assert_allclose(sequence.frame(0), expected, atol=1e-6)
    # in the camera (0.1, 0.04, 0.5): right (x) points to the world's -z, forward to its x
    np.testing.assert_allclose(sequence.frame(1), [[0.5 + 1, 0.04 + 2, -0.1 + 3]], atol=1e-6)
    assert sequence.part_labels is None
    assert (sequence.info.subject, sequence.info.camera) == (3, 3)
    camera = read_only(folder, voxel=0, frame_of_reference="camera", depth_limit=3.5)
    np.testing.assert_allclose(camera.frame(1), [[0.1, 0.04, 0.5]], atol=1e-6)
    assert len(camera.frame(0)) == 4


@pytest.mark.parametrize(("rig", "fx", "cx"), [(1, 1060.2955, 971.5211), (2, 1059.9718, 975.7193), (4, 1059.9718, 975.7193)])
def test_constants_stand_in_for_missing_intrinsics(tmp_path: Path, rig: int, fx: float, cx: float) -> None:
    place = tmp_path / f"ZY2021080000{rig}/H1/C2/N01/S16/s01/T1"
    write_png(place / "align_depth/0.png", pixels((100, 1200, 2000)))
    [point] = read_only(tmp_path, frame_of_reference="camera").points
    np.testing.assert_allclose(point[0], (1200 - cx) / fx * 2, atol=1e-5)
    with pytest.raises(DatasetError, match=r"intrin\.npy cannot be read"):
        read_only(tmp_path, frame_of_reference="camera", intrinsics="file")
    write_intrinsics(tmp_path.parent / f"camera_params/ZY2021080000{rig}/intrin.npy", MATRIX)  # beside the folder
    [point] = read_only(tmp_path, frame_of_reference="camera", intrinsics="file").points
    np.testing.assert_allclose(point[0], 0.48, atol=1e-5)
    [point] = read_only(tmp_path, frame_of_reference="camera", intrinsics="constants").points
    np.testing.assert_allclose(point[0], (1200 - cx) / fx * 2, atol=1e-5)
    (tmp_path.parent / f"camera_params/ZY2021080000{rig}/intrin.npy").unlink()


def add_masks(folder: Path, name: str) -> None:
    red, green, other, odd = (128, 0, 0), (0, 128, 0), (0, 0, 128), (129, 0, 0)
    for number in range(2):
        points = [(540, 960), (40, 160), (1079, 1919), (640, 1160)]
        mask = colours(*((row, column, colour) for (row, column), colour in zip(points, (red, green, other, odd), strict=True)))
        write_png(folder / NAME / f"2Dseg/{name}/{number:05d}.png", mask)


def test_masks_label_by_colour_and_category(folder: Path) -> None:
    add_masks(folder, "shift_mask")
    sequence = read_only(folder, voxel=0)
    assert sequence.part_labels is not None
    assert sequence.part_labels.tolist() == [47, 17, 0, 0]  # a mug and a hand; colours that mugs do not have
    assert read_only(folder, voxel=0, labels=False).part_labels is None


def test_masks_that_were_not_moved_are_moved_by_rig(folder: Path) -> None:
    """Rig 3: what the mask has at column 100, row 100 belongs to column 115, row 70."""
    add_masks(folder, "mask")
    depth = pixels((540 - 30, 960 + 15, 1000), (40, 160, 1000), (10, 175, 1000), (1079, 3, 1000))
    write_png(folder / NAME / "align_depth/00000.png", depth)
    labels = read_only(folder, voxel=0).part_labels
    assert labels is not None
    assert labels[:4].tolist() == [47, 0, 17, 0]


def test_what_masks_leave_black_gets_the_class_of_the_nearest_static_point(folder: Path) -> None:
    add_masks(folder, "shift_mask")
    for number in range(2):
        write_png(folder / NAME / f"2Dseg/shift_mask/{number:05d}.png", colours((540, 960, (0, 128, 0))))
    (folder / NAME / "3Dseg/label.txt").write_text("-1.6 -0.8 2 9 9 9 11 0\n2.8 1.2 3.0 9 9 9 5 1\n1.4 2.1 2.9 9 9 9 44 2\n")
    for options in ({}, {"frame_of_reference": "camera"}):
        labels = read_only(folder, voxel=0, **options).part_labels
        assert labels is not None
        assert labels.tolist() == [11, 47, 5, 44]


@pytest.mark.parametrize("line", ["1 2 3 5", "1 2 nan 5 0", "1 2 3 49 0", "1 2 3 1.5 0", "1e300 2 3 5 0", "# x y z", "", "1,2,3,5,0"])
def test_lines_of_static_points_are_checked(tmp_path: Path, line: str) -> None:
    (tmp_path / "label.txt").write_text(f"{line}\n0 0 0 5 0\n")
    with pytest.raises(DatasetError, match=r"label\.txt"):
        Background(tmp_path / "label.txt")


def test_labels_are_those_of_all_frames_or_none(folder: Path) -> None:
    add_masks(folder, "shift_mask")
    (folder / NAME / "2Dseg/shift_mask/00001.png").unlink()
    with pytest.raises(DatasetError, match="1 masks for 2 depth images"):
        open_folder(folder).sequences()
    assert open_folder(folder, labels=False).sequences()


def test_colours_are_those_of_pascal_voc() -> None:
    palette = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128]], np.uint8)
    assert classes_of_colours(palette, 8).tolist() == [65535, 9, 47, 9, 9, 9, 47]
    assert classes_of_colours(palette, 20).tolist() == [65535, 2, 47, 47, 0, 0, 0]
    assert classes_of_colours(np.array([[64, 0, 0], [1, 0, 0], [255, 255, 255]], np.uint8), 8).tolist() == [0, 0, 0]


def test_voxels_are_those_of_open3d(open3d: ModuleType) -> None:
    points = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points.astype(np.float64)))
    theirs = np.asarray(cloud.voxel_down_sample(0.1).points)
    ours = voxel_means(Frame(points=points), 0.1).points
    assert len(ours) == len(theirs)
    np.testing.assert_allclose(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.astype(np.float32).T)], atol=1e-6)


def test_voxels_are_the_same_by_table_and_by_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    frame = Frame(points=rng.normal(size=(5000, 3)).astype(np.float32), part_labels=rng.integers(0, 4, 5000).astype(np.uint16))
    by_table = voxel_means(frame, 0.5)
    monkeypatch.setattr(voxels, "LARGEST_GRID", 1)
    by_sorting = voxel_means(frame, 0.5)
    np.testing.assert_array_equal(by_table.points, by_sorting.points)
    np.testing.assert_array_equal(by_table.part_labels, by_sorting.part_labels)


def test_a_voxel_has_its_most_frequent_label() -> None:
    points = np.array([[0, 0, 0]] * 5 + [[1, 0, 0]] * 4, np.float32)
    labels = np.array([9, 3, 3, 9, 3, 7, 2, 2, 7], np.uint16)
    frame = voxel_means(Frame(points=points, part_labels=labels, action=4), 0.1)
    assert frame.part_labels is not None
    assert (frame.points[:, 0].tolist(), frame.part_labels.tolist(), frame.action) == ([0, 1], [3, 2], 4)


def events(*times: tuple[str, float, float], **info: float) -> dict[str, Any]:
    return {"events": [{"event": name, "startTime": start, "endTime": end, "id": 0} for name, start, end in times], "info": info}


def marks(*times: tuple[str, float, float], **info: float) -> dict[str, Any]:
    return {
        "markResult": {"marks": [{"event": name, "hdTimeStart": start, "hdTimeEnd": end} for name, start, end in times]},
        "info": info,
    }


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (events(("Reachout", 0, 2), ("putdown", 2, 10), ("rest", 10, 20), duration=20), [1, 7, 7, 7, 7, 0, 0, 0, 0, 0]),
        (marks(("Carrywithbothhands", 1, 5), Duration=10), [-1, 6, 6, 6, 6, -1, -1, -1, -1, -1]),
        (events(("turn&on&the&switch", 0, 5), ("paper-cut", 5, 10)), [17, 17, 17, 17, 17, 15, 15, 15, 15, 15]),  # a clock of 10 s
        (marks(("go", 0, 5), ("Lookaround", 5, 20)), [18, 18, 18, 19, 19, 19, 19, 19, 19, 19]),  # a clock of 20 s
        (events(("juggle", 0, 20), duration=20), [-1] * 10),
        (events(duration=20), [-1] * 10),
        (None, [-1] * 10),  # one published file is empty
    ],
)
def test_events_are_actions_of_frames(tmp_path: Path, record: dict[str, Any] | None, expected: list[int]) -> None:
    (tmp_path / "color.json").write_text(json.dumps(record) if record else "")
    assert read_events(tmp_path / "color.json", 10) == expected


def test_events_reach_the_frames(folder: Path) -> None:
    (folder / NAME / "action").mkdir()
    (folder / NAME / "action/color.json").write_text(json.dumps(events(("open", 0, 10), ("close", 10, 20), duration=20)))
    dataset = open_folder(folder)
    actions = dataset.read(dataset.sequences()[0]).frame_actions
    assert actions is not None
    assert [dataset.action_names[action] for action in actions] == ["open", "close"]
    assert len(set(EVENT_NAMES)) == 20
    assert dataset.part_names == PART_NAMES


def test_trees_side_by_side_and_merged_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "apart").mkdir()
    EXAMPLES[2].write(tmp_path / "apart")
    apart = open_folder(tmp_path / "apart")
    infos = apart.sequences()
    assert [info.id for info in infos] == ["ZY20210800001-H1-C2-N01-S16-s01-T1", "ZY20210800003-H3-C5-N02-S20-s02-T2"]
    assert [dict(info.splits) for info in infos] == [{"official": "train"}, {"official": "test"}]
    assert sorted(apart.expected().ids) == [info.id for info in infos]
    before = apart.read(infos[0])
    inside = infos[0].id.replace("-", "/")
    merged = tmp_path / "apart" / inside
    merged.parent.mkdir(parents=True)
    (tmp_path / "apart/HOI4D_depth_video" / inside).rename(merged)
    for part in sorted((tmp_path / "apart/HOI4D_annotations" / inside).iterdir()):
        part.rename(merged / part.name)
    after = open_folder(tmp_path / "apart").read(infos[0])
    np.testing.assert_array_equal(before.points, after.points)
    np.testing.assert_array_equal(before.part_labels, after.part_labels)


def test_a_video_that_was_not_extracted_comes_with_the_command(tmp_path: Path) -> None:
    video = tmp_path / "HOI4D_depth_video" / NAME / "align_depth/depth_video.avi"
    video.parent.mkdir(parents=True)
    video.write_bytes(b"RIFF")
    with pytest.raises(DatasetError) as caught:
        open_folder(tmp_path).sequences()
    command = f"ffmpeg -i {video} -vf fps=15 -f image2 -start_number 0 {video.parent}/%05d.png"
    assert command in str(caught.value.hint)


@pytest.mark.parametrize(
    ("names", "reason"),
    [(["00001.png", "00002.png"], "no image 0 among 2"), (["0.png", "00002.png"], "no image 1 among 2"), (["0.png", "00000.png"], "both")],
)
def test_images_are_numbered_without_gaps(tmp_path: Path, names: list[str], reason: str) -> None:
    for name in names:
        write_png(tmp_path / NAME / "align_depth" / name, pixels((5, 5, 500)))
    with pytest.raises(DatasetError, match=reason):
        open_folder(tmp_path, frame_of_reference="camera").sequences()


def test_the_world_needs_a_trajectory(folder: Path) -> None:
    (folder / NAME / "3Dseg/output.log").unlink()
    with pytest.raises(DatasetError, match=r"no 3Dseg/output\.log") as caught:
        open_folder(folder).sequences()
    assert "frame_of_reference=camera" in str(caught.value.hint)
    assert len(read_only(folder, frame_of_reference="camera").points) == 4


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[: len(text) // 2], "lines"),
        (lambda text: text + "2 2 3\n1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "15 lines"),
        (lambda text: text.replace("1 1 2\n", "2 2 3\n"), "line 6 begins the pose '2 2 3'"),
        (lambda text: text.replace("0.00000000", "x", 1), "line 2 reads"),
        (lambda text: text.replace("0.00000000", "nan", 1), "line 2 reads"),
        (lambda text: text.replace("0.00000000 ", "", 1), "line 2 reads"),
        (lambda text: text.replace("1.00000000", "1.1", 1), "lines 2 to 5 is not a camera's pose"),
        (lambda text: text.replace("1.00000000", "-1.0", 1), "lines 2 to 5 is not a camera's pose"),
        (lambda text: text.replace("3.00000000", "1e30"), "lines 7 to 10 is not a camera's pose"),
    ],
)
def test_trajectories_are_read_strictly(folder: Path, change: Callable[[str], str], reason: str) -> None:
    path = folder / NAME / "3Dseg/output.log"
    assert read_trajectory(path, 2).shape == (2, 4, 4)
    path.write_text(change(path.read_text()))
    with pytest.raises(DatasetError, match=reason):
        read_only(folder)


def test_lists_name_the_line_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "release.txt").write_text(f"{NAME}\r\n\r\n")
    (tmp_path / "testset.txt").write_text(f"{NAME}\n{NAME.replace('H3', 'H4')}")
    assert list(read_lists(tmp_path).values()) == ["train", "test"]
    (tmp_path / "testset.txt").write_text(f"{NAME}\n../../etc/passwd\n")
    with pytest.raises(DatasetError, match=r"testset\.txt: line 2"):
        open_folder(tmp_path).sequences()


def test_frames_are_read_one_at_a_time(folder: Path) -> None:
    full = np.full((1080, 1920), 1000, np.uint16)
    for number in range(2):
        write_png(folder / NAME / f"align_depth/{number:05d}.png", full + number)
    dataset = open_folder(folder)
    [info] = dataset.sequences()
    tracemalloc.start()
    frames = dataset.frames(info)
    assert len(next(frames).points) > 1000
    assert tracemalloc.get_traced_memory()[1] < 300e6
    tracemalloc.stop()


def test_damaged_text_reads_or_raises_dataset_errors(folder: Path) -> None:
    (folder / "label.txt").write_text("".join(f"{number / 7:.5f} {number:.2f} 0.5 {number % 49} 1\n" for number in range(60)))
    (folder / "color.json").write_text(json.dumps(events(("open", 0, 10), ("close", 10, 20), duration=20)))
    (folder / "release.txt").write_text("\n".join([NAME, NAME.replace("H3", "H4")]))
    readers: dict[Path, Callable[[Path], object]] = {
        folder / "label.txt": Background,
        folder / "color.json": lambda path: read_events(path, 300),
        folder / "release.txt": lambda path: read_lists(path.parent),
        folder / NAME / "3Dseg/output.log": lambda path: read_trajectory(path, 2),
        folder / "camera_params/ZY20210800003/intrin.npy": read_intrinsics,
    }
    rng = np.random.default_rng(2)
    for path, read in readers.items():
        intact, refusals = path.read_bytes(), []
        for _ in range(150):
            path.write_bytes(intact)
            path.write_bytes(mutate(path, rng))
            try:
                read(path)
            except DatasetError as error:
                refusals.append(str(error))
        path.write_bytes(intact)
        assert len(refusals) > 20, path
        assert all(path.name in message for message in refusals)


def test_damaged_recordings_read_or_raise_dataset_errors(folder: Path) -> None:
    add_masks(folder, "shift_mask")
    rng = np.random.default_rng(4)
    files = sorted(path for path in (folder / NAME).rglob("*.png"))
    refused = 0
    for number in range(20):
        path = files[number % len(files)]
        intact = path.read_bytes()
        path.write_bytes(mutate(path, rng))
        try:
            read_only(folder)
        except DatasetError:
            refused += 1
        path.write_bytes(intact)
    assert refused > 5


def test_notes_say_what_recordings_lack(folder: Path) -> None:
    def notes() -> list[str]:
        return list(HOI4D(folder, HOI4D.Options()).notes())

    assert [note.split(",")[0] for note in notes()] == [
        "1 recordings without masks",
        "1 recordings without 3Dseg/label.txt",
        "1 recordings without action/color.json",
    ]
    (folder / "camera_params/ZY20210800003/intrin.npy").unlink()
    assert "no camera_params for rigs ZY20210800003" in notes()[-1]


def test_events_of_unknown_names_are_told(folder: Path) -> None:
    (folder / NAME / "action").mkdir()
    (folder / NAME / "action/color.json").write_text(json.dumps(events(("open", 0, 10), ("Juggle", 10, 20), duration=20)))
    assert HOI4D(folder, HOI4D.Options()).notes()[-1].endswith("by how many recordings have them: 'Juggle' (1)")


def test_recordings_and_the_official_lists_are_joined(folder: Path) -> None:
    here = NAME.replace("-", "/")
    (folder / "release.txt").write_text(here.replace("/N01/", "/N1/") + "\n")
    dataset = HOI4D(folder, HOI4D.Options())
    with pytest.raises(DatasetError, match=r"(?s)release\.txt and testset\.txt: none of its 1 rows .* but for zeros"):
        dataset.sequences()


def test_a_broken_trajectory_is_not_needed_in_the_camera(folder: Path) -> None:
    (folder / NAME / "3Dseg/output.log").write_text("broken")
    with pytest.raises(DatasetError, match=r"output\.log"):
        read_only(folder)
    assert len(read_only(folder, frame_of_reference="camera", voxel=0).frame(0)) == 3
