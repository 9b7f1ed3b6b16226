"""The reader of the user's own point clouds: every format by hand, order, labels, options, and damaged files."""

import io
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cross4d_cache.build.selection import remarks, select_sequences
from cross4d_cache.datasets.folder.dataset import Folder
from cross4d_cache.datasets.folder.pcd import decompress_lzf
from cross4d_cache.errors import DatasetError
from cross4d_cache.types import UNLABELLED, PointCloudSequence
from tests.cross4d_cache.datasets.examples.example import Example
from tests.cross4d_cache.datasets.examples.folder import EXAMPLES, lzf, npy_bytes, pcd_compressed, ply_text, waving_figure
from tests.cross4d_cache.datasets.mutation import mutate

POINTS = np.array([[1, 2, 3], [-4, 0.5, 6], [7, -8, 9.25]])


def opened(root: Path, **options: str) -> Folder:
    return Folder(root, Folder.Options.model_validate(options))


def read_one(root: Path, **options: str) -> PointCloudSequence:
    dataset = opened(root, **options)
    [info] = dataset.sequences()
    return dataset.read(info)


def put(root: Path, *names: str, content: bytes = b"1 2 3\n") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def ply(form: str, vertex: str, body: bytes, count: int = 3) -> bytes:
    return f"ply\nformat {form} 1.0\nelement vertex {count}\n{vertex}end_header\n".encode() + body


def pcd(fields: str, sizes: str, types: str, counts: str, data: str, body: bytes, count: int = 3) -> bytes:
    return (
        f"VERSION 0.7\nFIELDS {fields}\nSIZE {sizes}\nTYPE {types}\nCOUNT {counts}\nWIDTH {count}\nHEIGHT 1\nPOINTS {count}\nDATA {data}\n"
    ).encode() + body


XYZ = "property float x\nproperty float y\nproperty float z\n"
TEXT = b"1 2 3\n-4 0.5 6\n7 -8 9.25\n"
FORMS = {
    "text.ply": ply("ascii", XYZ, TEXT),
    "doubles.ply": ply("binary_little_endian", XYZ.replace("float", "double"), POINTS.astype("<f8").tobytes()),
    "big_endian.ply": ply("binary_big_endian", XYZ, POINTS.astype(">f4").tobytes()),
    "mixed.ply": ply(
        "binary_little_endian",
        "property uchar red\nproperty double z\nproperty float32 y\nproperty float x\n",
        b"".join(struct.pack("<Bdff", 9, z, y, x) for x, y, z in POINTS),
    ),
    "camera_first.ply": ply(
        "ascii", XYZ + "element face 1\nproperty list uchar int vertex_indices\n", b"0.5 0.25\n" + TEXT + b"3 0 1 2\n"
    ).replace(b"element vertex", b"comment \xc3\x85 comment\nelement camera 1\nproperty float fx\nproperty float fy\nelement vertex"),
    "camera_first_binary.ply": ply("binary_little_endian", XYZ, bytes(8) + POINTS.astype("<f4").tobytes()).replace(
        b"element vertex", b"element camera 1\nproperty float fx\nproperty float fy\nelement vertex"
    ),
    "text.pcd": pcd("x y z", "4 4 4", "F F F", "1 1 1", "ascii", TEXT),
    "doubles.pcd": pcd("x y z", "8 8 8", "F F F", "1 1 1", "binary", POINTS.astype("<f8").tobytes()),
    "histogram_first.pcd": pcd(
        "h z y x", "2 4 4 4", "U F F F", "3 1 1 1", "binary", b"".join(struct.pack("<3H3f", 1, 2, 3, z, y, x) for x, y, z in POINTS)
    ),
    "histogram_first_text.pcd": pcd(
        "h z y x", "2 4 4 4", "U F F F", "3 1 1 1", "ascii", b"".join(b"1 2 3 %f %f %f\n" % (z, y, x) for x, y, z in POINTS)
    ),
    "packed.pcd": pcd(
        "h x y z",
        "2 4 4 4",
        "U F F F",
        "3 1 1 1",
        "binary_compressed",
        struct.pack("<II", len(lzf(bytes(18) + POINTS.T.astype("<f4").tobytes())), 54) + lzf(bytes(18) + POINTS.T.astype("<f4").tobytes()),
    ),
    "blanks.xyz": b"# made by hand\n" + TEXT.replace(b"\n", b"  0.1 0.2\r\n"),
    "commas.txt": TEXT.replace(b" ", b", "),
    "half.npy": npy_bytes(POINTS.astype("<f2")),
    "integers.npy": npy_bytes((POINTS * 4).astype("<i4")),
    "kitti.bin": np.c_[POINTS, [0.1, 0.2, 0.3]].astype("<f4").tobytes(),
    "nuscenes.pcd.bin": np.c_[POINTS, [0.1, 0.2, 0.3], [1, 2, 3]].astype("<f4").tobytes(),
    "mesh.OBJ": b"mtllib /etc/passwd\nv 1 2 3\nvt 0 0\nv -4 0.5 6 1.0\nv\t7 -8 9.25\nvn 0 0 1\nf 1/1 2/2 3/3\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_its_points(tmp_path: Path, name: str) -> None:
    put(tmp_path, f"only/{name}", content=FORMS[name])
    scale = "0.25" if name == "integers.npy" else "1"
    sequence = read_one(tmp_path, metres_per_unit=scale)
    np.testing.assert_array_equal(sequence.points, POINTS.astype(np.float32))


def test_files_that_open3d_writes(open3d: ModuleType, tmp_path: Path) -> None:
    """The same points come back from another writer's files, all of its formats."""
    points = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    cloud = open3d.t.geometry.PointCloud(points)
    cloud.point["label"] = np.arange(500, dtype=np.int32)[:, None]
    names = {
        "text.ply": {"write_ascii": True},
        "binary.ply": {},
        "text.pcd": {"write_ascii": True},
        "binary.pcd": {},
        "packed.pcd": {"compressed": True},
    }
    names["text.xyz"] = {}
    for name, settings in names.items():
        (tmp_path / name).mkdir()
        assert open3d.t.io.write_point_cloud(str(tmp_path / name / name), cloud, **settings)
    mesh = open3d.geometry.TriangleMesh.create_sphere(1.0, 6)
    for name in ("mesh.ply", "mesh.obj"):
        (tmp_path / name).mkdir()
        assert open3d.io.write_triangle_mesh(str(tmp_path / name / name), mesh)
    dataset = opened(tmp_path)
    for info in dataset.sequences():
        expected = mesh.vertices if info.id.startswith("mesh") else points
        np.testing.assert_allclose(dataset.read(info).points, np.asarray(expected), atol=1e-5)


def test_npz_places_and_scales_its_points(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    np.savez(
        tmp_path / "only" / "000.npz", points=np.array([[0.5, 0, -0.5]], np.float16), loc=np.array([1, 2, 3.0]), scale=np.float64(2), x=1
    )
    np.savez_compressed(tmp_path / "only" / "001.npz", anything=np.asfortranarray(POINTS))
    sequence = read_one(tmp_path)
    assert sequence.frame(0).tolist() == [[2, 2, 2]]
    np.testing.assert_array_equal(sequence.frame(1), POINTS.astype(np.float32))


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ("x,y,z", [1, 2, 3]),
        ("x,-z,y", [1, -3, 2]),  # z up, y forward: what is 3 up is -3 down
        ("x,-y,-z", [1, -2, -3]),  # y up, facing z: the camera stands on the side of z
        ("-y,-z,x", [-2, -3, 1]),  # KITTI's LiDAR: 1 forward, 2 left, 3 up
    ],
)
def test_axes_and_unit(tmp_path: Path, axes: str, expected: list[float]) -> None:
    put(tmp_path, "only/0.xyz")
    np.testing.assert_allclose(read_one(tmp_path, axes=axes, metres_per_unit="0.001").points, [np.array(expected) / 1000], rtol=1e-6)


def test_the_axes_that_the_help_names_show_kitti_and_nuscenes_alike(tmp_path: Path) -> None:
    """The same scene by both, whose LiDARs differ in their axes: the ground is below, and the box ahead, 6 to 9 m."""
    examples = {example.name: example for example in EXAMPLES}
    seen = []
    for name in ("folder-kitti", "folder-nuscenes"):
        (tmp_path / name).mkdir()
        examples[name].write(tmp_path / name)
        dataset = opened(tmp_path / name, **examples[name].options)
        assert f"`{dataset.options.axes}`" in str(Folder.Options.__doc__)
        seen.append(dataset.read(dataset.sequences()[0]).frame(0))
    np.testing.assert_array_equal(*seen)
    assert seen[0][:, 1].max() == pytest.approx(1.7, abs=1e-3)


def test_sequences_and_frames_are_in_natural_order(tmp_path: Path) -> None:
    for folder in ("run10", "run2", "Run3"):
        for number in (10, 9, 100):
            put(tmp_path, f"{folder}/frame{number}.xyz", content=b"%d 0 1\n" % number)
    put(tmp_path, ".hidden/0.xyz", "run2/._frame1.xyz", "notes.txt", "run2/thumbs.db", "run2/notes.txt")
    dataset = opened(tmp_path)
    assert [(info.id, info.num_frames) for info in dataset.sequences()] == [("Run3", 3), ("run2", 3), ("run10", 3)]
    assert dataset.read(dataset.sequences()[1]).points[:, 0].tolist() == [9, 10, 100]
    strided = opened(tmp_path, frame_stride="2")
    assert strided.read(strided.sequences()[1]).points[:, 0].tolist() == [9, 100]


def test_a_folder_of_frames_is_one_sequence(tmp_path: Path) -> None:
    put(tmp_path, "walk/1.xyz", "walk/2.xyz", "walk/labels.csv", content=b"1 2 3\n")
    (tmp_path / "walk" / "labels.csv").write_text("sequence,action\nwalk,walking\n")
    [info] = opened(tmp_path / "walk").sequences()
    assert (info.id, info.num_frames, info.action) == ("walk", 2, 0)


def test_kitti_keeps_frames_in_velodyne(tmp_path: Path) -> None:
    scan = np.c_[POINTS, [0, 0, 0]].astype("<f4").tobytes()
    put(tmp_path, "00/velodyne/000000.bin", "00/velodyne/000001.bin", content=scan)
    put(tmp_path, "00/labels/000000.label", "00/labels/000001.label", content=struct.pack("<3I", 2, 7 << 16, 1 << 16 | 2))
    put(tmp_path, "00/times.txt")
    assert read_one(tmp_path).part_labels is None
    assert read_one(tmp_path / "00").num_frames == 2
    put(tmp_path, "classes.txt", content=b"2\tcar\n0 ground plane \n\n")
    dataset = opened(tmp_path)
    assert dataset.part_names == ("ground plane", "class 1", "car")
    labels = dataset.read(dataset.sequences()[0]).part_labels
    assert labels is not None
    assert labels.tolist() == [2, 0, 2] * 2
    put(tmp_path, "00/labels/000001.label", content=struct.pack("<3I", 0, 0, 3))
    with pytest.raises(DatasetError, match=r"000001\.bin: label 3 of point 2"):
        dataset.read(dataset.sequences()[0])
    put(tmp_path, "00/labels/000001.label", content=bytes(11))
    with pytest.raises(DatasetError, match=r"000001\.label: ends at byte 11"):
        dataset.read(dataset.sequences()[0])


def test_points_without_a_measurement_are_left_out_with_their_labels(tmp_path: Path) -> None:
    body = b"nan nan nan 7\n1 2 3 1\n4 inf 6 9\n7 8 1e39 3\n2 2 2 0\n"
    put(tmp_path, "only/0.pcd", content=pcd("x y z label", "4 4 4 4", "F F F U", "1 1 1 1", "ascii", body, count=5))
    put(tmp_path, "classes.txt", content=b"0 a\n9 b\n")
    sequence = read_one(tmp_path, tracks="true")
    assert sequence.points.tolist() == [[1, 2, 3], [2, 2, 2]]
    assert sequence.part_labels is not None
    assert sequence.part_labels.tolist() == [1, 0]
    assert sequence.surface_ids is not None
    assert sequence.surface_ids.tolist() == [1, 4]


def test_a_frame_without_a_measurement_is_named(tmp_path: Path) -> None:
    put(tmp_path, "only/0.xyz")
    put(tmp_path, "only/1.xyz", content=b"nan 1 2\n")
    with pytest.raises(DatasetError, match=r"1\.xyz: none of its 1 points is finite"):
        read_one(tmp_path)


def test_map_coordinates_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "only/0.xyz", content=b"448262.1 5413000.5 30\n")
    with pytest.raises(DatasetError, match="origin=auto"):
        read_one(tmp_path)


def test_tracks_need_equal_counts(tmp_path: Path) -> None:
    put(tmp_path, "only/0.xyz", content=b"1 2 3\n4 5 6\n")
    put(tmp_path, "only/1.xyz", content=b"1 2 3\n")
    assert read_one(tmp_path).surface_ids is None
    with pytest.raises(DatasetError, match=r"(?s)1\.xyz: 1 points.*2, as in 0\.xyz"):
        read_one(tmp_path, tracks="true")


def test_labels_in_some_frames_only_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "classes.txt", content=b"0 body\n2 arm\n")
    points, labels = waving_figure(0, 5, 0)
    put(tmp_path, "only/0.ply", content=ply_text(points, labels))
    put(tmp_path, "only/1.ply", content=FORMS["text.ply"])
    with pytest.raises(DatasetError, match=r"(?s)1\.ply: no labels.*as in 0\.ply"):
        read_one(tmp_path)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    put(tmp_path, "a/0.xyz", "b/0.xyz", "c/0.xyz")
    return tmp_path


def table(root: Path, text: str) -> Folder:
    (root / "labels.csv").write_text(text)
    return opened(root)


def test_a_table_gives_actions_subjects_and_splits(runs: Path) -> None:
    dataset = table(runs, "\ufeffsequence,split,subject,action\r\nc,train,7,kick 10\r\n\r\na,test,12,kick 2\r\n")
    assert dataset.action_names == ("kick 2", "kick 10")
    found = [(info.id, info.action, info.subject, dict(info.splits)) for info in dataset.sequences()]
    assert found == [
        ("a", 0, 12, {"labels": "test"}),
        ("b", UNLABELLED, UNLABELLED, {}),
        ("c", 1, 7, {"labels": "train"}),
    ]
    assert [list(item.lines()) for item in dataset.joins()] == [["labels.csv: 1 sequence without a row: b"]]


def test_subjects_with_names_are_numbered(runs: Path) -> None:
    assert [info.subject for info in table(runs, "sequence,subject\na,zoe\nb,\nc,7\n").sequences()] == [1, UNLABELLED, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"labels\.csv, line 1: its columns are \(none\)"),
        ("name,action\na,x\n", "line 1: its columns are name, action"),
        ("sequence,spilt\na,train\n", "line 1: its columns are sequence, spilt"),
        ("sequence,split\na,val\n", "line 2: split 'val'"),
        ("sequence,split\na,train\nb\n", "line 3: 1 values for 2 columns"),
        ("sequence\na\na\n", "line 3: sequence 'a' stands there twice"),
        ('sequence\n"a', "line 2"),
    ],
)
def test_a_wrong_table_is_refused(runs: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        table(runs, text).sequences()


def test_a_table_that_was_asked_for_must_be_there(runs: Path) -> None:
    with pytest.raises(DatasetError, match=r"my\.csv cannot be read"):
        opened(runs, labels="my.csv").sequences()


@pytest.mark.parametrize("text", ["car 1\n", "1\n", "1 car\n1 bus\n", "1 car\n2 car\n", "70000 car\n"])
def test_wrong_class_names_are_refused(runs: Path, text: str) -> None:
    (runs / "classes.txt").write_text(text)
    with pytest.raises(DatasetError, match=r"classes\.txt, line"):
        _ = opened(runs).part_names


def test_folders_that_are_not_sequences_are_damage(tmp_path: Path) -> None:
    put(tmp_path, "good/0.ply", "two/0.ply", "two/1.pcd", "pictures/0.png", "empty/0.ply", "gone/0.ply")
    (tmp_path / "empty" / "0.ply").write_bytes(b"")
    (tmp_path / "gone" / "1.ply").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "good" / "1.ply")
    messages = [damage.error.found for damage in opened(tmp_path).listing.damaged]
    assert len(messages) == 5
    for message, words in zip(
        messages,
        ("0.ply: 0 bytes", "1.ply cannot be read", "1.ply is not a file", "pictures holds no frames", "several kinds"),
        strict=True,
    ):
        assert words in message


def test_names_that_cannot_be_printed_are_refused(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    with pytest.raises(DatasetError, match="holds the name"):
        opened(tmp_path).sequences()


def test_what_changed_since_the_listing_is_refused(runs: Path) -> None:
    dataset = opened(runs)
    first, second, third = dataset.sequences()
    put(runs, "a/1.xyz")
    (runs / "b" / "0.xyz").write_bytes(b"")
    (runs / "c" / "0.xyz").rename(runs / "c" / "0.txt.old")
    for info, message in ((first, "2 frames"), (second, "0 bytes"), (third, "holds no frames")):
        with pytest.raises(DatasetError, match=message):
            dataset.read(info)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("0.ply", FORMS["doubles.ply"][:-5], "ends at byte 185 of 190: 3 points of 24 bytes"),
        ("0.ply", FORMS["text.ply"][:-10] + b"\n\n\n", "ends at byte 118 after 2 of 3 points"),
        ("0.ply", FORMS["text.ply"].replace(b"vertex 3", b"vertex 999999999999"), "too early for 999999999999 points"),
        ("0.ply", FORMS["big_endian.ply"].replace(b"vertex 3", b"vertex 999999999999"), "of 12000000000"),
        ("0.ply", FORMS["text.ply"].replace(b"0.5", b"O.5"), "could not convert string 'O.5' to float64 at row 1, column 2"),
        ("0.ply", FORMS["text.ply"].replace(b"float y", b"float q"), "properties x, q, z"),
        ("0.ply", FORMS["text.ply"].replace(b"float y", b"list uchar float y"), "lists as properties"),
        ("0.ply", FORMS["text.pcd"], "no PLY header"),
        ("0.pcd", FORMS["text.ply"], "no PCD header"),
        ("0.pcd", FORMS["text.pcd"].replace(b"POINTS 3", b"POINTS 4"), "4 POINTS, which is not WIDTH times HEIGHT"),
        ("0.pcd", FORMS["text.pcd"].replace(b"SIZE 4 4 4", b"SIZE 4 4 3"), "other types"),
        ("0.pcd", FORMS["text.pcd"].replace(b"SIZE 4 4 4\n", b""), "no value for 'SIZE'"),
        ("0.pcd", FORMS["doubles.pcd"][:-1], "ends at byte 168 of 169"),
        ("0.pcd", FORMS["packed.pcd"][:-3], "ends at byte"),
        ("0.bin", bytes(50), "ends at byte 50, 2 bytes into a point of 4 numbers"),
        ("0.npy", FORMS["half.npy"][:-1], r"ends at byte 145, an array of shape \(3, 3\) at byte 146"),
        ("0.npy", npy_bytes(np.zeros(3)), r"shape \(3,\)"),
        ("0.npy", npy_bytes(np.zeros((2, 3), "<c8")), "its header is not"),
        ("0.npy", FORMS["half.npy"].replace(b"<f2", b"<f1"), "its header is not"),
        ("0.ply", FORMS["text.ply"].replace(b"float x", b"float8 x"), "line 'property float8 x'"),
        ("0.npz", b"PK\3\4" + bytes(40), "not a zip file"),
        ("0.xyz", b"1 2 3\n4 5\n", "row"),
        ("0.xyz", b"# nothing\n", "holds no points"),
        ("0.obj", b"f 1 2 3\n", "holds no points"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    put(tmp_path, f"only/{name}", content=content)
    with pytest.raises(DatasetError, match=message) as caught:
        read_one(tmp_path)
    assert name in caught.value.found


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    for name in ("npy", "npz"):
        (tmp_path / name / "only").mkdir(parents=True)
    np.save(tmp_path / "npy" / "only" / "0.npy", np.array([{}, []], dtype=object))
    np.savez(tmp_path / "npz" / "only" / "0.npz", points=np.array([{}, []], dtype=object))
    for name in ("npy", "npz"):
        with pytest.raises(DatasetError, match="holds objects, not numbers"):
            read_one(tmp_path / name)


def test_archives_that_unpack_to_more_than_they_say_take_no_memory(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("points.npy", npy_bytes(np.zeros((10, 3))) + bytes(50_000_000))
    real = struct.pack("<I", 50_000_000 + 368)
    for claim in (368, 2**31, 50_000_368):
        put(tmp_path, "only/0.npz", content=packed.getvalue().replace(real, struct.pack("<I", claim)))
        tracemalloc.start()
        with pytest.raises(DatasetError, match=r"0\.npz"):
            read_one(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < (10_000_000 if claim != 50_000_368 else 120_000_000)


@pytest.mark.parametrize("data", [b"", b"abc", b"abcabcabcabc" * 50, bytes(5000), bytes(range(256)) * 9])
def test_lzf_is_undone(data: bytes) -> None:
    assert decompress_lzf(lzf(data), len(data)) == data


@pytest.mark.parametrize("packed", [b"\x05ab", b"\x00a\x20\x07", b"\xe0", b"\x20", b"\x00a", b"\x02abcd"])
def test_broken_lzf_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="packed body"):
        decompress_lzf(packed, 3)


def test_frames_are_read_one_at_a_time(tmp_path: Path) -> None:
    for number in range(40):
        put(tmp_path, f"only/{number}.bin", content=np.ones((20_000, 4), "<f4").tobytes())
    dataset = opened(tmp_path)
    [info] = dataset.sequences()
    tracemalloc.start()
    assert sum(len(frame.points) for frame in dataset.frames(info)) == 800_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_damaged_files_read_or_are_refused_by_name(tmp_path: Path, example: Example) -> None:
    """40 of each form here; `make soak` takes thousands."""
    example.write(tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.name != "calib.txt")
    rng = np.random.default_rng(5)
    refusals = 0
    for _ in range(40):
        path = files[rng.integers(len(files))]
        intact = path.read_bytes()
        path.write_bytes(mutate(path, rng))
        message = refusal(tmp_path, example)
        assert not message or path.stem in message
        refusals += bool(message)
        path.write_bytes(intact)
    assert refusals > 5


def refusal(root: Path, example: Example) -> str:
    """What the reader has against a folder; empty if it reads."""
    dataset = opened(root, **example.options)
    try:
        for info in dataset.sequences():
            assert np.isfinite(dataset.read(info).points).all()
    except DatasetError as error:
        return str(error)
    return ""


def test_packed_and_plain_figures_agree(tmp_path: Path) -> None:
    points, labels = waving_figure(0, 700, 3)
    put(tmp_path, "only/0.pcd", content=pcd_compressed(points, labels))
    np.testing.assert_array_equal(read_one(tmp_path).points, points.astype(np.float32))


@pytest.fixture(scope="module")
def dfaust() -> Path:
    root = os.environ.get("CROSS4D_REAL_DATA")
    if not root:
        pytest.skip("CROSS4D_REAL_DATA is not set: the folder that holds dfaust/")
    return Path(root) / "dfaust"


def test_a_real_body_moves_smoothly_and_faces_the_camera(dfaust: Path) -> None:
    """17 scans of D-FAUST: metres, y up, the person facing z; 100,000 points that are the same in all frames."""
    dataset = opened(dfaust, tracks="true", axes="x,-y,-z", frame_stride="4")
    [info] = dataset.sequences()
    assert (info.id, info.num_frames) == ("50004_punching", 5)
    before = None
    for frame in dataset.frames(info):
        assert len(frame.points) == 100_000
        assert frame.surface_ids is not None
        assert (frame.surface_ids == np.arange(100_000)).all()
        height = np.ptp(frame.points[:, 1])
        assert 1.4 < height < 1.9
        down = frame.points[:, 1] - frame.points[:, 1].min()
        feet, shins = frame.points[down > height - 0.04], frame.points[(down > height - 0.2) & (down < height - 0.1)]
        assert feet[:, 2].mean() < shins[:, 2].mean() - 0.02  # toes point to the camera, which looks along +z
        if before is not None:
            assert 0.001 < np.median(np.linalg.norm(frame.points - before, axis=1)) < 0.02
        before = frame.points


def told(dataset: Folder) -> list[str]:
    return list(remarks(dataset))


def test_a_labelled_sequence_that_is_not_there_is_told_and_no_damage(tmp_path: Path) -> None:
    put(tmp_path, "a/0.xyz")
    (tmp_path / "labels.csv").write_text("sequence,split\na,train\nb,test\n")
    dataset = opened(tmp_path)
    assert [info.id for info in dataset.sequences()] == ["a"]
    assert told(dataset) == ["labels.csv: 1 row without a sequence: b"]


def test_names_are_compared_as_unicode_composes_them(tmp_path: Path) -> None:
    """The folder as an editor writes it, the row as a file system does, or the other way round; a sequence keeps the name of its folder."""
    for place, (folder, row) in enumerate((("marché", "marche\u0301"), ("marche\u0301", "marché"))):
        put(tmp_path, f"{place}/{folder}/0.xyz")
        (tmp_path / str(place) / "labels.csv").write_text(f"sequence,action,split\n{row},{row},Train\n", encoding="utf-8")
        dataset = opened(tmp_path / str(place))
        [info] = dataset.sequences()
        assert (info.id, info.action, info.splits) == (folder, 0, {"labels": "train"})
        assert dataset.action_names == ("marché",)
        assert told(dataset) == []


def test_a_row_takes_the_folder_that_is_spelt_as_it_is(tmp_path: Path) -> None:
    put(tmp_path, "é/0.xyz", "e\u0301/0.xyz")
    dataset = table(tmp_path, "sequence,subject\ne\u0301,2\né,1\n")
    assert {info.id: info.subject for info in dataset.sequences()} == {"é": 1, "e\u0301": 2}


def test_rows_that_name_no_sequence_at_all_are_refused(tmp_path: Path) -> None:
    """A spreadsheet took the zeros; a build must not start without labels then."""
    put(tmp_path, "001/0.xyz", "002/0.xyz")
    dataset = table(tmp_path, "sequence,split\n1,train\n2,test\n")
    for refusing in (dataset.sequences, lambda: select_sequences(dataset, exclude=(), limit=None)):
        with pytest.raises(
            DatasetError, match=r"(?s)none of its 2 rows names a sequence: 1, 2.*001, 002.*'1' resembles '001' but for zeros"
        ):
            refusing()


def test_zeros_and_case_are_pointed_at(tmp_path: Path) -> None:
    put(tmp_path, "a01/0.xyz", "B/0.xyz", "c/0.xyz", "d/0.xyz")
    assert told(table(tmp_path, "sequence,action\nc,x\na1,x\nb,X\nzz,y\n")) == [
        "labels.csv: 3 rows without a sequence: a1, b, zz",
        "labels.csv: 3 sequences without a row: B, a01, d",
        "labels.csv: 'a1' resembles 'a01' but for zeros at the front; a spreadsheet keeps them in columns of text (1 such row)",
        "labels.csv: 'b' resembles 'B' but for case (1 such row)",
        "labels.csv: actions 'X' and 'x' count as two",
    ]


def test_tables_as_spreadsheets_save_them(runs: Path) -> None:
    for separator in ",;\t":
        lines = ["Sequence,Split,Action", "a,TRAIN,walk", "b,Test,run; slowly" if separator == "," else "b,Test,run", "c,,", ",,", ",,"]
        dataset = table(runs, "\r\n".join(line if separator == "," else line.replace(",", separator) for line in lines))
        assert [dict(info.splits) for info in dataset.sequences()] == [{"labels": "train"}, {"labels": "test"}, {}]
        assert [info.action for info in dataset.sequences()] == [1, 0, UNLABELLED]
        assert told(dataset) == []


def test_tables_that_are_not_read_are_told(runs: Path) -> None:
    (runs / "Labels.csv").write_text("sequence,action\na,x\n")
    assert told(opened(runs)) == ["no labels.csv with labels; not read: Labels.csv (name another table with `dataset.options` labels=FILE)"]
    assert told(opened(runs, labels="Labels.csv")) == ["Labels.csv: 2 sequences without a row: b, c"]
    assert told(table(runs, "sequence,action\n"))[0] == "labels.csv: 3 sequences without a row: a, b, c"


def test_times_and_poses_beside_frames_are_no_frames(tmp_path: Path) -> None:
    put(tmp_path, *(f"{folder}/{number:06}.{folder}" for folder in ("txt", "npy") for number in range(4)), content=TEXT)
    sides = ["npy/notes.txt", "npy/poses.npy", "txt/Poses.txt", "txt/times.txt", "words/times.txt"]
    put(tmp_path, "words/walk.txt", *sides, content=b"0 0.1 0.2\n")
    dataset = opened(tmp_path)
    assert {info.id: info.num_frames for info in dataset.sequences()} == {"npy": 4, "txt": 4, "words": 1}
    assert told(dataset) == [f"5 files taken for times, poses or the like, not for frames: {', '.join(sides)}"]


def test_frames_that_differ_in_more_than_a_number_are_told(tmp_path: Path) -> None:
    put(tmp_path, "a/0.txt", "a/1.txt", "a/calib_cam0.txt", "b/x.ply", "b/y.ply")
    assert told(opened(tmp_path)) == [
        "2 sequences whose frames differ in more than a number: a (1.txt, calib_cam0.txt), b (x.ply, y.ply), all of them read"
    ]


def test_labels_of_points_that_are_not_read_are_told(tmp_path: Path) -> None:
    put(tmp_path, "00/velodyne/0.bin", content=bytes(16))
    put(tmp_path, "00/labels/0.label", "00/labels/00.label", content=bytes(4))
    assert told(opened(tmp_path)) == ["1 sequence with labels of points, not read as there is no classes.txt: 00"]
    put(tmp_path, "classes.txt", content=b"0 ground\n")
    assert told(opened(tmp_path)) == ["1 file with labels of no frame: 00/labels/00.label"]


def test_frames_beside_folders_are_refused_and_a_level_too_deep_is_told(tmp_path: Path) -> None:
    put(tmp_path, "mixed/0.xyz", "mixed/1.xyz", "mixed/backup/0.xyz", "deep/data/run/0.xyz")
    with pytest.raises(DatasetError, match=r"frames \(0\.xyz, \.\.\.\) beside folders \(backup"):
        opened(tmp_path / "mixed").sequences()
    with pytest.raises(DatasetError, match=f"pass `dataset.root` {tmp_path / 'deep' / 'data'}"):
        opened(tmp_path / "deep").sequences()


def test_sequences_in_folders_of_classes_are_not_to_be_read_by_one_class(tmp_path: Path) -> None:
    put(tmp_path, "walk/s1/0.xyz", "run/s1/0.xyz")
    with pytest.raises(
        DatasetError, match=r"those of run, walk, \.\.\. into one folder, under names such as run_s1, and say in labels\.csv"
    ) as caught:
        opened(tmp_path).sequences()
    assert "`dataset.root`" not in str(caught.value)


def test_an_array_on_its_side_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "0.npy", np.ones((3, 5000), np.float32))
    with pytest.raises(DatasetError, match="transpose"):
        read_one(tmp_path)
