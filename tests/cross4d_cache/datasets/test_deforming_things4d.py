"""The DeformingThings4D reader: meshes and their tracks, renders, categories, the split, and damage."""

import os
import shutil
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from cross4d_cache.datasets.deforming_things4d.anime import open_anime
from cross4d_cache.datasets.deforming_things4d.dataset import DeformingThings4D
from cross4d_cache.datasets.deforming_things4d.identities import (
    CATEGORIES,
    CROSS_IDENTITY_TEST_V1,
    IDENTITIES,
    category_of,
    cross_identity_test,
)
from cross4d_cache.datasets.deforming_things4d.surface import sample_surface
from cross4d_cache.errors import DatasetError
from tests.cross4d_cache.datasets.examples.deforming_things4d import CORNERS, TRIANGLES, anime, moved, write_anime, write_rendered


def opened(root: Path, **options: Any) -> DeformingThings4D:
    return DeformingThings4D(root, DeformingThings4D.Options.model_validate(options))


def read_first(root: Path) -> None:
    dataset = opened(root)
    dataset.read(dataset.sequences()[0])


@pytest.fixture
def meshes(tmp_path: Path) -> Path:
    write_anime(tmp_path)
    return tmp_path


@pytest.fixture
def renders(tmp_path: Path) -> Path:
    write_rendered(tmp_path)
    return tmp_path


def test_offsets_are_relative_to_frame_0(tmp_path: Path) -> None:
    (tmp_path / "x.anime").write_bytes(anime(4))
    file = open_anime(tmp_path / "x.anime")
    assert (file.num_frames, file.num_vertices, file.num_triangles) == (4, 8, 12)
    for frame in range(4):
        np.testing.assert_allclose(file.vertices(frame), moved(frame), atol=1e-6)
    np.testing.assert_array_equal(file.triangles(), TRIANGLES)


def test_z_up_becomes_y_down(meshes: Path) -> None:
    """The box is 0.5 m wide (x), 0.25 m deep (y) and 1 m high (z); it stands on the ground."""
    dataset = opened(meshes, points=4000)
    points = dataset.read(dataset.sequences()[0]).frame(0)
    low, high = points.min(axis=0), points.max(axis=0)
    np.testing.assert_allclose(low, [0, -1, 0], atol=0.02)
    np.testing.assert_allclose(high, [0.5, 0, 0.25], atol=0.02)


def test_points_keep_their_place_on_the_surface(meshes: Path) -> None:
    """The box is stretched and shifted, and so is every point of it."""
    dataset = opened(meshes, points=300, axes="x,y,z")
    info = dataset.sequences()[0]
    sequence = dataset.read(info)
    assert sequence.surface_ids is not None
    start = sequence.frame(0)
    for frame in range(info.num_frames):
        expected = start * [1, 1, 1 + 0.1 * frame] + [0.2 * frame, 0, 0]
        np.testing.assert_allclose(sequence.frame(frame), expected, atol=1e-5)
        np.testing.assert_array_equal(sequence.surface_ids[frame * 300 : (frame + 1) * 300], np.arange(300))


def test_samples_say_their_vertex(meshes: Path) -> None:
    """The vertex of a sample is the nearest of its triangle's in barycentric terms, and is one of the mesh."""
    dataset = opened(meshes, points=200, axes="x,y,z")
    info = dataset.sequences()[0]
    samples = dataset.surface_samples(info)
    np.testing.assert_allclose(samples.weights.sum(axis=1), 1, atol=1e-6)
    assert (samples.weights >= 0).all()
    np.testing.assert_allclose(samples.place(moved(2)), dataset.read(info).frame(2), atol=1e-6)
    for corners, weights, vertex in zip(samples.corners, samples.weights, samples.nearest_vertices, strict=True):
        assert vertex == corners[list(weights).index(max(weights))]
        assert tuple(corners) in {tuple(triangle) for triangle in TRIANGLES}


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), stretch=st.floats(0.1, 10))
def test_samples_are_uniform_by_area(seed: int, stretch: float) -> None:
    """Two faces of a stretched box get points in proportion to their areas, whose centre is that of the face."""
    vertices = (CORNERS * np.array([stretch, 1, 1])).astype(np.float32)
    triangles = TRIANGLES.astype(np.int64)
    samples = sample_surface(vertices, triangles, 20_000, np.random.default_rng(seed))
    points = samples.place(vertices)
    bottom, side = points[points[:, 2] == 0], points[points[:, 0] == 0]
    areas = {"bottom": 0.5 * stretch * 0.25, "side": 0.25 * 1.0, "front": 0.5 * stretch}
    total = 2 * sum(areas.values())
    assert len(bottom) / 20_000 == pytest.approx(areas["bottom"] / total, rel=0.15)
    assert len(side) / 20_000 == pytest.approx(areas["side"] / total, rel=0.15, abs=0.005)
    assert bottom[:, 0].mean() == pytest.approx(0.25 * stretch, rel=0.1)


def test_seed_and_id_decide_the_points(meshes: Path) -> None:
    def points(name: str, **options: Any) -> bytes:
        dataset = opened(meshes, points=50, **options)
        return dataset.read(next(info for info in dataset.sequences() if info.id == name)).frame(0).tobytes()

    assert points("duck_Walk") == points("duck_Walk")
    assert points("duck_Walk", seed=1) != points("duck_Walk")
    assert points("bear3EP_Agression") != points("duck_Walk")


def test_there_are_38_categories() -> None:
    assert len(IDENTITIES) == len(set(IDENTITIES)) == 59
    assert len(CATEGORIES) == 38
    assert [category_of(name) for name in ("bear3EP", "duck", "huskydog3T", "Vampire", "9x")] == ["bear", "duck", "huskydog", "", ""]


def test_the_split_is_the_one_its_rule_gives() -> None:
    assert cross_identity_test(IDENTITIES) == CROSS_IDENTITY_TEST_V1
    assert cross_identity_test(IDENTITIES[::-1]) == CROSS_IDENTITY_TEST_V1
    trained = {category_of(identity) for identity in IDENTITIES if identity not in CROSS_IDENTITY_TEST_V1}
    assert trained == set(CATEGORIES), "every category trains"


def test_listing(meshes: Path) -> None:
    infos = opened(meshes).sequences()
    assert [(info.id, info.num_frames) for info in infos] == [
        ("bear3EP_Agression", 5),
        ("bear84Q_Idle_long2", 3),
        ("duck_Walk", 4),
        ("unknownX1_Run", 2),
    ]
    assert [CATEGORIES[info.action] for info in infos[:3]] == ["bear", "bear", "duck"]
    assert [IDENTITIES[info.subject] for info in infos[:3]] == ["bear3EP", "bear84Q", "duck"]
    assert [info.splits.get("cross-identity") for info in infos] == ["train", "test", "train", None]
    assert (infos[3].action, infos[3].subject) == (-1, -1)


def test_subsets(meshes: Path) -> None:
    [person] = opened(meshes, subset="humanoids").sequences()
    assert (person.id, person.action, person.subject, dict(person.splits)) == ("vampire_Breakdance1990", -1, -1, {})
    assert len(opened(meshes, subset="all").sequences()) == 5
    assert opened(meshes, subset="all").expected().num_sequences == 1972
    inside = opened(meshes / "animals")
    assert [info.id for info in inside.sequences()] == [info.id for info in opened(meshes).sequences()]


def test_one_frame_is_in_memory_at_a_time(tmp_path: Path) -> None:
    """400 frames of 20,000 vertices are 96 MB."""
    count, frames = 20_000, 400
    rng = np.random.default_rng(0)
    vertices = rng.random((count, 3)).astype("<f4")
    triangles = rng.integers(0, count, (1000, 3)).astype("<i4")
    folder = tmp_path / "animals" / "duck_Long"
    folder.mkdir(parents=True)
    with (folder / "duck_Long.anime").open("wb") as file:
        file.write(struct.pack("<3i", frames, count, len(triangles)) + vertices.tobytes() + triangles.tobytes())
        file.truncate(12 * (1 + frames * count + len(triangles)))
    dataset = opened(tmp_path, points=100)
    tracemalloc.start()
    assert sum(1 for _ in dataset.frames(dataset.sequences()[0])) == frames
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_render_by_hand(renders: Path) -> None:
    """The camera at (0, -3, 1) looks along +y; pixel (column 8, row 5) of the first image is 3 m away."""
    dataset = opened(renders, axes="x,y,z")
    info = dataset.sequences()[0]
    assert (info.id, info.num_frames) == ("bear3EP_Agression", 3)
    first = dataset.read(info).frame(0)
    assert len(first) == 200
    np.testing.assert_allclose(first[0], [(8 - 20) / 60 * 3, 0, 1 - (5 - 15) / 60 * 3], atol=1e-6)
    opencv = opened(renders).read(info).frame(0)
    np.testing.assert_allclose(opencv, first[:, [0, 2, 1]] * [1, -1, 1], atol=1e-6)


def test_one_render_may_be_the_root(renders: Path) -> None:
    [info] = opened(renders / "bear84Q_Idle2").sequences()
    assert (info.id, info.splits["cross-identity"]) == ("bear84Q_Idle2", "test")


def test_the_folder_one_stands_in_has_a_name(renders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(renders / "bear84Q_Idle2")
    [info] = opened(Path()).sequences()
    assert (info.id, info.splits["cross-identity"]) == ("bear84Q_Idle2", "test")


def test_several_cameras_of_an_animation(renders: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("cameras")
    for camera in ("cam2", "cam1"):
        shutil.copytree(renders / "bear84Q_Idle2", root / "bear84Q_Idle2" / camera)
    infos = opened(root).sequences()
    assert [info.id for info in infos] == ["bear84Q_Idle2-cam1", "bear84Q_Idle2-cam2"]
    assert {(info.subject, info.splits["cross-identity"]) for info in infos} == {(IDENTITIES.index("bear84Q"), "test")}


def test_a_render_without_one_of_its_camera_files_is_damaged(renders: Path) -> None:
    (renders / "bear84Q_Idle2" / "cam_intr.txt").unlink()
    listing = opened(renders).listing
    assert [info.id for info in listing.sequences] == ["bear3EP_Agression"]
    assert ["cam_intr.txt cannot be read" in str(damage.error) for damage in listing.damaged] == [True]


def test_what_other_systems_leave_beside_images_is_no_frame(renders: Path) -> None:
    (renders / "bear84Q_Idle2" / "depth" / "._0018.png").write_bytes(b"resource fork")
    assert [info.num_frames for info in opened(renders).sequences()] == [3, 3]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-7], ["ends at byte 629", "636 bytes"]),
        (lambda data: data[:5], ["inside its header, after 5 bytes"]),
        (lambda data: struct.pack("<i", -5) + data[4:], ["-5 frames"]),
        (lambda data: struct.pack("<3i", 2**31 - 1, 2**31 - 1, 1) + data[12:], ["2147483647 frames"]),
        (lambda data: data[:108] + struct.pack("<i", 8) + data[112:], ["vertex 8, at byte 108", "below 8"]),
        (lambda data: data[:12] + bytes(96) + data[108:], ["area"]),
        (lambda data: data[:12] + struct.pack("<f", float("nan")) + data[16:], ["nan, at byte 12"]),
        (lambda data: data[:368] + struct.pack("<f", float("inf")) + data[372:], ["inf, at byte 368"]),
    ],
)
def test_damaged_meshes_are_named(tmp_path: Path, damage: Any, words: list[str]) -> None:
    folder = tmp_path / "animals" / "duck_Walk"
    folder.mkdir(parents=True)
    (folder / "duck_Walk.anime").write_bytes(damage(anime(5)))
    with pytest.raises(DatasetError) as raised:
        read_first(tmp_path)
    assert all(word in str(raised.value) for word in ["duck_Walk.anime", *words]), raised.value


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("cam_intr.txt", "1 2 3", ["cam_intr.txt: 3 numbers", "3 x 3"]),
        ("cam_intr.txt", "-60 0 20 0 60 15 0 0 1", ["focal"]),
        ("cam_intr.txt", "1e-300 0 20 0 60 15 0 0 1", ["focal"]),
        ("cam_extr.txt", "2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1", ["rigid"]),
        ("cam_extr.txt", "-1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", ["rigid"]),
        ("cam_extr.txt", "nan " * 16, ["finite"]),
        ("cam_extr.txt", "one", ["cam_extr.txt"]),
        ("depth/0018.png", "hello, this is not an image at all", ["0018.png", "byte 0"]),
        ("depth/0021.png", "hello", ["0021.png"]),
    ],
)
def test_damaged_renders_are_named(renders: Path, name: str, text: str, words: list[str]) -> None:
    (renders / "bear3EP_Agression" / name).write_text(text)
    with pytest.raises(DatasetError) as raised:
        read_first(renders)
    assert all(word in str(raised.value) for word in words), raised.value


def test_one_damaged_animation_does_not_hide_the_others(meshes: Path) -> None:
    (meshes / "animals" / "duck_Walk" / "duck_Walk.anime").write_bytes(b"")
    listing = opened(meshes).listing
    assert len(listing.sequences) == 3
    assert ["duck_Walk" in str(damage.error) for damage in listing.damaged] == [True]


def read_flow(path: Path) -> np.ndarray:
    """Scene flow (row, column, xyz) of a published EXR file: float32 channels B, G, R = x, y, z, zip-compressed blocks of 16 rows."""
    data = path.read_bytes()
    assert data[:4] == b"\x76\x2f\x31\x01"
    place, attributes = 8, {}
    while data[place]:
        name, kind = data[place:].split(b"\0", 2)[:2]
        place += len(name) + len(kind) + 2
        size = struct.unpack_from("<i", data, place)[0]
        attributes[name] = data[place + 4 : place + 4 + size]
        place += 4 + size
    assert attributes[b"compression"] == b"\x03"
    left, top, right, bottom = struct.unpack("<4i", attributes[b"dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    blocks = struct.unpack_from(f"<{-(-height // 16)}Q", data, place + 1)
    flow = np.zeros((height, width, 3), np.float32)
    for block in blocks:
        row, size = struct.unpack_from("<ii", data, block)
        rows = min(16, height - row)
        packed = data[block + 8 : block + 8 + size]
        values = np.frombuffer(packed if size == rows * width * 12 else _unpacked(packed), "<f4").reshape(rows, 3, width)
        flow[row : row + rows] = values.transpose(0, 2, 1)  # channels lie in alphabetical order: B, G, R
    return flow


def _unpacked(packed: bytes) -> bytes:
    """Undo EXR's zip: differences of bytes, then the two halves interleaved."""
    steps = np.frombuffer(zlib.decompress(packed), np.uint8).astype(np.int64)
    steps[1:] -= 128
    values = np.cumsum(steps).astype(np.uint8)
    half = -(-len(values) // 2)
    mixed = np.empty(len(values), np.uint8)
    mixed[0::2], mixed[1::2] = values[:half], values[half:]
    return mixed.tobytes()


def test_real_render_moves_as_its_scene_flow_says() -> None:
    """Points of frame 18 plus the published flow, in the camera's axes, land on frame 22: unit, intrinsics and axes are right."""
    root = os.environ.get("CROSS4D_REAL_DATA")
    if not root:
        pytest.skip("CROSS4D_REAL_DATA is not set: the folder that holds deforming_things4d_rendered/")
    folder = Path(root) / "deforming_things4d_rendered"
    dataset = opened(folder, axes="x,y,z")
    [info] = dataset.sequences()
    assert info.num_frames == 5
    sequence = dataset.read(info)
    source, target = sequence.frame(0), sequence.frame(4)
    assert 0 <= sequence.points[:, 2].min() < 0.1, "it stands on the ground, z up"
    assert 1.5 < sequence.points[:, 2].max() < 2.5
    from PIL import Image

    depth = np.asarray(Image.open(folder / "depth" / "0018.png"))
    flow = read_flow(folder / "sflow" / "0018_0022.exr")[depth > 0]
    rotation = np.loadtxt(folder / "cam_extr.txt")[:3, :3]
    tree = cKDTree(target)
    still, moved_there = tree.query(source)[0].mean(), tree.query(source + flow @ rotation.T)[0].mean()
    assert still > 0.2
    assert moved_there < 0.012


def test_an_animation_without_its_file_is_damage(meshes: Path) -> None:
    (meshes / "animals" / "duck_Walk" / "duck_Walk.anime").unlink()
    [damage] = opened(meshes).listing.damaged
    assert damage.error.sequence == "duck_Walk"
    assert "duck_Walk.anime cannot be read" in str(damage.error)


def test_the_folder_says_which_subset_it_is(meshes: Path) -> None:
    [person] = opened(meshes / "humanoids").sequences()
    assert (person.action, person.subject, dict(person.splits)) == (-1, -1, {})
    assert opened(meshes / "humanoids").expected().num_sequences == 200
    animals = opened(meshes / "animals", subset="humanoids")
    assert animals.sequences() == opened(meshes).sequences()


def test_animals_that_no_list_knows_are_told(meshes: Path) -> None:
    [note] = opened(meshes).notes()
    assert note.endswith("unknownX1")
    folder = (meshes / "animals" / "unknownX1_Run").rename(meshes / "animals" / "Bear84q_Run")
    (folder / "unknownX1_Run.anime").rename(folder / "Bear84q_Run.anime")
    assert opened(meshes).notes()[1] == "'Bear84q' resembles 'bear84Q' but for case (1 such row)"
    assert opened(meshes / "humanoids").notes() == ()


def test_points_of_an_animation_lie_on_its_mesh(tmp_path: Path) -> None:
    """Also in other axes, and with fewer frames."""
    write_anime(tmp_path)
    for options in ({}, {"axes": "x,y,z", "frame_stride": 2}):
        dataset = DeformingThings4D(tmp_path, DeformingThings4D.Options.model_validate(options))
        info = dataset.sequences()[0]
        samples = dataset.surface_samples(info)
        for frame, found in enumerate(dataset.frames(info)):
            mesh = dataset.mesh(info, frame)
            assert mesh is not None
            np.testing.assert_allclose(samples.place(mesh.vertices), found.points, atol=1e-5)
