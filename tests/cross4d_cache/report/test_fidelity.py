"""The fidelity report: against scenes whose truth is known, damaged correspondences, and figures worked out by hand."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from typer.testing import CliRunner

from cross4d_cache.build.engines.local import Build
from cross4d_cache.build.plan import plan_build
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.cli import app
from cross4d_cache.datasets import open_dataset
from cross4d_cache.datasets.dataset import Dataset, DatasetOptions, Listing
from cross4d_cache.datasets.mesh import Mesh
from cross4d_cache.datasets.synthetic.dataset import Synthetic
from cross4d_cache.errors import DatasetError
from cross4d_cache.report.fidelity import Fidelity, FidelityReport, describe
from cross4d_cache.report.fidelity.agreement import FrameTargets, Pairs
from cross4d_cache.report.fidelity.rays import depth_behind
from cross4d_cache.store import Cache, open_cache
from cross4d_cache.store.part import PartContents
from cross4d_cache.teachers import load_teacher
from cross4d_cache.teachers.teacher import Teacher
from cross4d_cache.types import Camera, Frame, SequenceInfo
from tests.cross4d_cache.datasets.examples.deforming_things4d import write_anime

NUM_FRAMES = 30


class Walls(Dataset):
    """Two parallel walls: the front one, 1 m x 1 m, hides the middle of the one behind, 2 m x 2 m; both slide to the right."""

    name = "walls"
    version = "1"
    protocols: ClassVar[tuple[str, ...]] = ("all",)
    needs_root = False
    action_names = ("slide",)
    meshes = True
    tracks = True

    def __init__(self) -> None:
        super().__init__(None, DatasetOptions())

    def sequences(self) -> Sequence[SequenceInfo]:
        return [SequenceInfo(id="walls", num_frames=NUM_FRAMES, action=0, splits={"all": "train"})]

    def frames(self, info: SequenceInfo) -> Iterator[Frame]:
        grid = np.stack(np.meshgrid(np.linspace(-1, 1, 41), np.linspace(-1, 1, 41)), axis=-1).reshape(-1, 2)
        for t in range(info.num_frames):
            front, back = (np.column_stack([grid * half + [0.02 * t, 0], np.full(len(grid), z)]) for half, z in ((0.5, 4.0), (1.0, 5.0)))
            points = np.concatenate([front, back]).astype(np.float32)
            yield Frame(points=points, surface_ids=np.arange(len(points), dtype=np.uint32) if self.tracks else None)

    def mesh(self, info: SequenceInfo, frame: int) -> Mesh | None:
        square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        corners = [np.column_stack([square * half + [0.02 * frame, 0], np.full(4, z)]) for half, z in ((0.5, 4.0), (1.0, 5.0))]
        faces = np.array([[0, 1, 2], [0, 2, 3]])
        both = Mesh(vertices=np.concatenate(corners).astype(np.float32), triangles=np.concatenate([faces, faces + 4]))
        return both if self.meshes else None


def build(dataset: Dataset, path: Path, teacher: Teacher | None = None, **settings: Any) -> Cache:
    teacher = teacher or load_teacher("position")
    for _ in Build(dataset, teacher, plan_build(dataset, teacher, BuildSettings(**settings)), path).run():
        pass
    return open_cache(path)


def measure(cache: Cache, dataset: Dataset | None) -> FidelityReport:
    fidelity = Fidelity(cache, dataset, why_no_dataset="not given")
    assert list(fidelity.run()) == list(range(1, len(fidelity.sample) + 1))
    return fidelity.report


@pytest.mark.usefixtures("open3d")
@pytest.mark.parametrize("settings", [{}, {"views": 2}, {"camera": "window:4"}])
def test_walls_are_seen_as_they_are(settings: dict[str, Any], tmp_path: Path) -> None:
    dataset = Walls()
    report = measure(build(dataset, tmp_path / "store.zarr", **settings), dataset)
    assert (report.sequences, report.frames, report.points) == (1, 2, 2 * 2 * 41**2)
    assert report.reproduced == 1
    assert report.truth is not None
    assert report.truth.precision > 0.99
    assert report.truth.depth.median_mm < 0.1
    assert report.surface.beyond_tolerance < 0.01
    assert report.agreement is not None
    assert [row.gap for row in report.agreement] == [1, 8]
    assert report.truth.recall > 0.97
    if settings.get("views") == 2:  # from behind, the large wall hides the small one
        assert report.visible_by_view[1] == pytest.approx(0.5, abs=0.02)
        assert report.visible > 0.97
        assert len(report.truth.by_view) == 2
        assert np.min(report.truth.by_view) > 0.97
        assert "by view         precision/recall" in "\n".join(describe(report))
    else:
        assert report.truth.by_view == ((report.truth.precision, report.truth.recall),)
        assert report.visible == report.visible_by_view[0]
        assert report.views_per_point == 1


@pytest.mark.usefixtures("open3d")
def test_the_nearest_points_of_pixels_let_hidden_ones_through(tmp_path: Path) -> None:
    """Where points lie sparser than pixels, a hidden one has its pixel to itself."""
    dataset = Walls()
    report = measure(build(dataset, tmp_path / "store.zarr", visibility="winner"), dataset)
    assert report.truth is not None
    assert report.reproduced == 1
    assert report.truth.precision < 0.9
    assert report.surface.beyond_tolerance > 0.1


def build_altered(dataset: Dataset, path: Path, alter: Callable[[PartContents], PartContents]) -> Cache:
    """A store whose hashes fit and whose contents do not."""
    teacher = load_teacher("position")
    run = Build(dataset, teacher, plan_build(dataset, teacher, BuildSettings()), path)
    commit = run.writer.commit
    run.writer.commit = lambda number, contents: commit(number, alter(contents))  # type: ignore[method-assign]
    for _ in run.run():
        pass
    return open_cache(path)


@pytest.mark.usefixtures("open3d")
def test_a_store_that_counts_hidden_points_as_visible_is_seen_through(tmp_path: Path) -> None:
    dataset = Walls()

    def all_seen(contents: PartContents) -> PartContents:
        return replace(contents, patch_slot=np.where(contents.patch_slot == 65_535, np.uint16(0), contents.patch_slot))

    report = measure(build_altered(dataset, tmp_path / "store.zarr", all_seen), dataset)
    assert report.truth is not None
    assert report.visible == 1
    assert report.truth.precision == pytest.approx(report.reproduced, abs=0.02)
    assert report.truth.precision < 0.9
    assert report.truth.recall == 1
    assert report.truth.depth.p95_mm > 900  # the wall behind lies 1 m back, along slanted rays
    assert report.surface.p95_mm > 900


def test_a_store_that_gives_points_the_patches_of_others_is_seen_through(tmp_path: Path) -> None:
    """Though every point is as visible as it was."""

    def turned(contents: PartContents) -> PartContents:
        slots = contents.patch_slot.copy()
        slots[slots != 65_535] = slots[slots != 65_535][::-1]  # all frames have equally many rows
        return replace(contents, patch_slot=slots)

    class Still(Walls):
        def frames(self, info: SequenceInfo) -> Iterator[Frame]:
            first = next(super().frames(info))
            return (first for _ in range(info.num_frames))

    report = measure(build_altered(Still(), tmp_path / "store.zarr", turned), None)
    assert report.visible < 0.99
    assert 1 - report.visible <= report.reproduced < 0.5


def test_other_cameras_than_those_that_saw_are_seen_through(tmp_path: Path) -> None:
    def turned(contents: PartContents) -> PartContents:
        poses = contents.world_to_camera.copy()
        poses[:, :, 0, 3] += 0.3
        return replace(contents, world_to_camera=poses)

    report = measure(build_altered(Walls(), tmp_path / "store.zarr", turned), None)
    assert report.reproduced < 0.9


@pytest.mark.usefixtures("open3d")
def test_points_off_their_surface_are_seen(tmp_path: Path) -> None:
    class Off(Walls):
        nearer = 0.0

        def frames(self, info: SequenceInfo) -> Iterator[Frame]:
            for frame in super().frames(info):
                yield replace(frame, points=frame.points - np.float32([0, 0, self.nearer]))

    for nearer in (0.01, 0.3):
        dataset = Off()
        dataset.nearer = nearer
        report = measure(build(dataset, tmp_path / f"{nearer}.zarr"), dataset)
        assert report.truth is not None
        assert report.truth.depth.median_mm == pytest.approx(-1000 * nearer, rel=0.1)
        assert report.truth.depth.beyond_tolerance < 0.01
        assert (report.truth.depth.before_tolerance > 0.95) == (nearer > 0.1)  # the tolerance is about 3 cm


@pytest.mark.usefixtures("open3d")
@pytest.mark.parametrize("rule", ["shifted:20", "zbuffer"])
def test_stores_of_any_cameras_and_targets_are_reproduced(rule: str, tmp_path: Path) -> None:
    """Spherical views with points outside their sectors, and patches beside the points."""
    dataset = Walls()
    report = measure(build(dataset, tmp_path / "store.zarr", camera_model="spherical", correspondence=rule), dataset)
    assert report.reproduced == 1
    assert report.truth is not None
    assert report.truth.precision > 0.97
    json.dumps(asdict(report), allow_nan=False)
    assert sum(report.visible_by_view) == pytest.approx(report.visible)  # a point is in one sector


@pytest.mark.usefixtures("open3d")
def test_animated_meshes_seen_by_a_video_teacher(tiny_vjepa2: Path, tmp_path: Path) -> None:
    """Tubelets, several views, and fewer frames and other units than those of the files."""
    write_anime(tmp_path / "anime")
    options = {"points": 4096, "frame_stride": 2, "metres_per_unit": 0.5}
    teacher = load_teacher("vjepa2", str(tiny_vjepa2), window=4)
    store = build(open_dataset("deforming_things4d", tmp_path / "anime", options), tmp_path / "store.zarr", teacher, views=2)
    report = measure(store, open_dataset("deforming_things4d", tmp_path / "anime", store.manifest.dataset.options))
    assert report.reproduced == 1
    assert report.truth is not None
    assert report.truth.precision > 0.9  # sides that hide behind an edge are seen through between its points
    assert report.truth.recall > 0.95
    assert np.abs(report.truth.depth.median_mm) < 0.1
    assert report.agreement is not None
    assert [row.gap for row in report.agreement] == [1]  # no file has nine frames


def test_shuffled_targets_agree_no_more_than_their_floor(tmp_path: Path) -> None:
    dataset = Walls()
    reports = [measure(build(dataset, tmp_path / rule, correspondence=rule), None) for rule in ("zbuffer", "shuffled", "random")]
    (plain, shuffled, drawn) = (report.agreement[0] for report in reports if report.agreement is not None)
    assert plain.centred > plain.centred_floor + 0.5
    for control in (shuffled, drawn):
        assert abs(control.centred - control.centred_floor) < 0.1
        assert control.same_patch < 0.1 < plain.same_patch
    assert all(report.reproduced == 1 for report in reports)


def test_agreement_by_hand() -> None:
    before = FrameTargets(
        ids=np.array([3, 7, 7, 9], np.uint32), targets=np.float32([[1, 0], [0, 1], [5, 5], [1, 1]]), patches=np.array([0, 1, 2, 3])
    )
    after = FrameTargets(ids=np.array([9, 7, 4], np.uint32), targets=np.float32([[1, 1], [1, 0], [9, 9]]), patches=np.array([3, 2, 0]))
    pairs = Pairs(gap=1)
    pairs.add(before, after, np.random.default_rng(0))
    found = pairs.agreement()
    assert found is not None
    assert (found.pairs, found.same_patch) == (2, 0.5)
    assert found.raw == pytest.approx((0 + 1) / 2)  # 7: orthogonal, 9: equal
    mean = np.mean([[0, 1], [1, 1], [1, 0], [1, 1]], axis=0)
    a, b = np.array([0, 1]) - mean, np.array([1, 0]) - mean
    assert found.centred == pytest.approx((a @ b / np.linalg.norm(a) / np.linalg.norm(b) + 1) / 2)
    assert Pairs(gap=1).agreement() is None


def test_what_cannot_be_known_is_said(tmp_path: Path) -> None:
    dataset = Walls()
    store = build(dataset, tmp_path / "store.zarr")
    report = measure(store, None)
    assert report.truth is None
    assert report.absent == {"truth": "not given"}
    dataset.meshes = False
    report = measure(store, dataset)
    assert report.absent == {"truth": "dataset walls has no meshes"}
    assert "not measured: dataset walls has no meshes" in "\n".join(describe(report))
    dataset.tracks = False
    report = measure(build(dataset, tmp_path / "untracked.zarr"), None)
    assert report.agreement is None
    assert "no surface ids" in "\n".join(describe(report))


def test_without_open3d_the_rest_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Walls()
    store = build(dataset, tmp_path / "store.zarr")
    monkeypatch.setitem(sys.modules, "open3d", None)
    report = measure(store, dataset)
    assert report.truth is None
    assert report.absent["truth"].endswith("pip install 'cross4d[mesh]'; it needs the system library libusb-1.0-0")
    assert report.reproduced == 1
    assert report.agreement is not None


@pytest.mark.usefixtures("open3d")
def test_a_frame_without_a_mesh_leaves_the_others_figures(tmp_path: Path) -> None:
    class Torn(Walls):
        def mesh(self, info: SequenceInfo, frame: int) -> Mesh | None:
            return super().mesh(info, frame) if frame < NUM_FRAMES / 2 else None

    dataset = Torn()
    report = measure(build(dataset, tmp_path / "store.zarr"), dataset)
    assert report.truth is not None
    assert report.truth.precision > 0.99


@pytest.mark.usefixtures("open3d")
def test_a_dataset_with_damage_elsewhere_still_tells_its_meshes(tmp_path: Path) -> None:
    class Damaged(Walls):
        @property
        def listing(self) -> Listing:
            return Listing(tuple(Walls.sequences(self)))

        def sequences(self) -> Sequence[SequenceInfo]:
            raise DatasetError("one of the files is damaged")

    assert measure(build(Walls(), tmp_path / "store.zarr"), Damaged()).truth is not None


def test_another_dataset_is_refused(tmp_path: Path) -> None:
    class Others(Walls):
        def fingerprint(self) -> str:
            return "another"

    with pytest.raises(DatasetError, match="other sequences"):
        Fidelity(build(Walls(), tmp_path / "store.zarr"), Others())


@pytest.fixture(scope="module")
def bodies() -> Synthetic:
    dataset = open_dataset("synthetic", options={"num_humans": "1", "num_animals": "1", "noise": "0"})
    assert isinstance(dataset, Synthetic)
    return dataset


def test_vertices_of_bodies_lie_on_their_surfaces(bodies: Synthetic) -> None:
    for info in (bodies.sequences()[0], bodies.sequences()[-1]):
        primitives, mesh = bodies.primitives(info), bodies.mesh(info, 3)
        vertices = mesh.vertices.reshape(len(primitives.radii), -1, 3).astype(float)
        for number, points in enumerate(vertices):
            local = (points - primitives.centres[3, number]) @ primitives.rotations[3, number]
            half = float(primitives.half_lengths[number])
            local[:, 2] -= np.clip(local[:, 2], -half, half)
            np.testing.assert_allclose(np.linalg.norm(local / primitives.radii[number], axis=1), 1, atol=2e-4)
        assert mesh.triangles.min() == 0
        assert mesh.triangles.max() == len(mesh.vertices) - 1


@pytest.mark.usefixtures("open3d")
def test_the_sensors_own_points_lie_on_the_mesh(bodies: Synthetic) -> None:
    camera = Camera(intrinsics=np.eye(3), world_to_camera=np.eye(4), image_size=1)
    for info in (bodies.sequences()[0], bodies.sequences()[-1]):
        points = bodies.read(info).frame(3)
        behind = depth_behind(bodies.mesh(info, 3), points, camera)
        np.testing.assert_array_less(np.abs(np.percentile(behind, [1, 99])), 0.002)
        inner = points * 1.02
        assert np.percentile(depth_behind(bodies.mesh(info, 3), inner.astype(np.float32), camera), 5) > 0.02


def test_the_report_of_the_command(small_store: Path) -> None:
    result = CliRunner().invoke(app, ["info", str(small_store), "--fidelity", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["reproduced"] == 1
    assert found.keys() == asdict(measure(open_cache(small_store), None)).keys()
    assert "--data" in found["absent"]["truth"]
    text = CliRunner().invoke(app, ["info", str(small_store), "--fidelity"]).stdout
    assert "reproduced        100.00%" in text
