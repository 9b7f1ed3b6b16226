"""Stage one from sequences to store, against slow independent computations of the same targets."""

import shutil
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from cross4d_cache.build import plan
from cross4d_cache.build.controls import shuffle
from cross4d_cache.build.engines.local import Build
from cross4d_cache.build.fitting import ProjectionFit
from cross4d_cache.build.plan import plan_build
from cross4d_cache.build.preparation import prepare, thin
from cross4d_cache.build.projection import PrincipalComponents, make_projection
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.build.windows import SequenceWindow
from cross4d_cache.datasets import open_dataset
from cross4d_cache.datasets.dataset import Dataset, DatasetOptions
from cross4d_cache.errors import CacheCorruptError, DatasetError, SettingsError
from cross4d_cache.rendering.correspondence import correspond
from cross4d_cache.rendering.projection import batch_cameras
from cross4d_cache.rendering.render import render
from cross4d_cache.store import Cache, open_cache
from cross4d_cache.teachers import load_teacher
from cross4d_cache.teachers.teacher import Teacher, Window
from cross4d_cache.types import UNLABELLED, UNLABELLED_PART, Frame, PointCloudSequence, RenderSettings, SequenceInfo

MakeBall = Callable[..., PointCloudSequence]
LENGTHS = (5, 9, 3, 1)


class Balls(Dataset):
    """Sequences in memory."""

    name = "balls"
    version = "1"
    protocols: ClassVar[tuple[str, ...]] = ("all",)
    needs_root = False
    action_names = ("drift",)
    sensor_at_origin = True

    def __init__(self, made: list[PointCloudSequence]) -> None:
        super().__init__(None, DatasetOptions())
        self._made = {item.info.id: item for item in made}

    def sequences(self) -> Sequence[SequenceInfo]:
        return [item.info for item in self._made.values()]

    def frames(self, info: SequenceInfo) -> Iterator[Frame]:
        return self._made[info.id].frames()


@pytest.fixture
def balls(make_ball: MakeBall) -> Balls:
    return Balls([make_ball(length, seed=number, name=f"ball{number}", num_points=200) for number, length in enumerate(LENGTHS)])


def build(dataset: Dataset, teacher: Teacher, path: Path, **settings: object) -> Cache:
    plan = plan_build(dataset, teacher, BuildSettings(**{"frames_per_part": 10, "points_per_frame": 120, **settings}))  # type: ignore[arg-type]
    for _ in Build(dataset, teacher, plan, path).run():
        pass
    return open_cache(path)


def slow_targets(sequence: PointCloudSequence, teacher: Teacher, settings: RenderSettings) -> list[tuple[np.ndarray, np.ndarray]]:
    """Targets and visibility of the points of every frame, each from its own window alone, one image at a time, one view.

    Cameras of windows of N frames: every N frames, the last time for those that remain as well.
    """
    prepared = prepare(sequence.info, sequence.frames(), settings, points_per_frame=120, seed=0)
    spec, total = teacher.spec, sequence.num_frames
    length = int(settings.camera.removeprefix("window:")) if settings.camera.startswith("window") else total
    starts = [start for start in range(0, total, length) if start == 0 or start + length <= total]

    @cache
    def shoot(t: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        cloud = torch.from_numpy(prepared.points[prepared.point_offsets[t] : prepared.point_offsets[t + 1]])
        image = torch.zeros(len(cloud), dtype=torch.int64)
        placed = prepared.views[max(number for number, start in enumerate(starts) if start <= t)]
        cameras = batch_cameras([placed], torch.device("cpu"))
        view = render(cloud, image, cameras, settings)
        found = correspond(view, image, cameras, settings, spec.patch_size)
        return view.image[0], found.patch, found.visible

    targets = []
    for frame in range(total):
        start = max(start for start in starts if start <= frame)
        end = min([later for later in starts if later > frame], default=total)
        begin = start + max(0, min((frame - start) // spec.window * spec.window, end - start - spec.window))
        clip = torch.stack([shoot(min(begin + place, end - 1))[0] for place in range(spec.window)])
        tokens = teacher(clip[None]).tokens[0, (frame - begin) // spec.tubelet]
        _, patch, visible = shoot(frame)
        targets.append((tokens[patch].half().numpy(), visible.numpy()))
    return targets


@pytest.mark.parametrize(
    ("name", "window", "settings"),
    [
        ("hf", 1, {}),
        ("vjepa2", 4, {}),
        ("vjepa2", 6, {}),
        ("hf", 1, {"camera": "window:3", "visibility": "winner"}),
        ("vjepa2", 4, {"camera": "window:5"}),
        ("hf", 1, {"camera": "sensor"}),
    ],
)
def test_every_points_target_is_the_feature_of_its_patch(
    name: str, window: int, settings: dict[str, str], balls: Balls, tiny_vit: Path, tiny_vjepa2: Path, tmp_path: Path
) -> None:
    """Also at ends, at odd lengths, and in sequences shorter than a window."""
    teacher = load_teacher(name, str(tiny_vit if name == "hf" else tiny_vjepa2), window=window)
    store = build(balls, teacher, tmp_path / "store.zarr", batch_frames=8, **settings)
    for index, info in enumerate(store.sequences):
        for frame, (expected, visible) in enumerate(slow_targets(balls.read(info), teacher, store.manifest.render)):
            clip = store.read_clip(index, np.array([frame]))
            np.testing.assert_array_equal(clip.rows[:, 0] >= 0, visible)
            found = clip.features[clip.rows[visible, 0]]
            if name == "hf":
                np.testing.assert_array_equal(found.view(np.uint16), expected[visible].view(np.uint16))
            else:
                np.testing.assert_allclose(found.astype(np.float32), expected[visible].astype(np.float32), atol=2e-3)


def test_every_frame_has_the_cameras_of_its_window(balls: Balls, tiny_vit: Path, tmp_path: Path) -> None:
    store = build(balls, load_teacher("hf", str(tiny_vit)), tmp_path / "store.zarr", camera="window:3", views=2)
    for index, info in enumerate(store.sequences):
        clip = store.read_clip(index, np.arange(info.num_frames))
        for frame in range(info.num_frames):
            first = min(frame // 3, max(info.num_frames // 3, 1) - 1) * 3
            end = first + 3 if first + 6 <= info.num_frames else info.num_frames
            points = clip.points[clip.point_offsets[first] : clip.point_offsets[end]]
            for camera in store.cameras(index, frame):
                pixels, _ = camera.project(points)
                assert np.abs(pixels / camera.image_size - 0.5).max() == pytest.approx(0.475, abs=1e-3)
    with pytest.raises(IndexError):
        store.cameras(0, store.sequences[0].num_frames)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"camera": "window:2"}, "sees 4 frames at once"),
        ({"camera": "window"}, "unknown camera"),
        ({"camera": "window:0"}, "unknown camera"),
        ({"camera": "sensor", "views": 2}, "one pinhole view"),
        ({"camera": "sensor", "camera_model": "spherical"}, "one pinhole view"),
        ({"visibility": "all"}, "unknown visibility"),
        ({"correspondence": "shifted:0"}, "unknown correspondence"),
        ({"correspondence": "shifted"}, "unknown correspondence"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, object], words: str, balls: Balls, tiny_vjepa2: Path) -> None:
    teacher = load_teacher("vjepa2", str(tiny_vjepa2), window=4)
    with pytest.raises(SettingsError, match=words):
        plan_build(balls, teacher, BuildSettings(**settings))  # type: ignore[arg-type]


def test_a_sensor_whose_place_is_not_known_is_refused(make_ball: MakeBall, tiny_vit: Path) -> None:
    class Elsewhere(Balls):
        sensor_at_origin = False

    with pytest.raises(SettingsError, match="does not know where its sensor stood"):
        plan_build(Elsewhere([make_ball(2)]), load_teacher("hf", str(tiny_vit)), BuildSettings(camera="sensor"))


def test_a_sensor_amid_the_points_is_told_with_the_sequence(make_ball: MakeBall, tiny_vit: Path, tmp_path: Path) -> None:
    ball = make_ball(2)
    around = Balls([replace(ball, points=ball.points - np.float32([0, 0, 2]))])
    with pytest.raises(SettingsError, match=r"sequence ball: seen from the sensor, points lie \d+ degrees off"):
        build(around, load_teacher("hf", str(tiny_vit)), tmp_path / "store.zarr", camera="sensor")


@pytest.mark.parametrize("views", [1, 2])
def test_random_targets_are_those_of_drawn_patches(views: int, balls: Balls, any_teacher: Teacher, tmp_path: Path) -> None:
    """The points that are seen stay the same; the patches are all over the image, and others in another store."""
    plain = build(balls, any_teacher, tmp_path / "plain.zarr", views=views)
    drawn, again, rebatched, reseeded = (
        build(balls, any_teacher, tmp_path / f"{number}.zarr", views=views, correspondence="random", **settings)
        for number, settings in enumerate([{}, {}, {"batch_frames": 1, "frames_per_part": 3}, {"seed": 1, "points_per_frame": 200}])
    )
    assert parts_of(tmp_path / "0.zarr") == parts_of(tmp_path / "1.zarr")
    assert again.manifest == drawn.manifest
    spec, hits = any_teacher.spec, np.zeros(views * any_teacher.spec.num_patches, int)
    for index, info in enumerate(plain.sequences):
        before, clip, other = (store.read_clip(index, np.arange(info.num_frames)) for store in (plain, drawn, rebatched))
        np.testing.assert_array_equal(before.rows < 0, clip.rows < 0)
        np.testing.assert_array_equal(clip.patches[clip.rows], other.patches[other.rows])
        np.testing.assert_array_equal(clip.features, other.features)
        np.add.at(hits, clip.patches[clip.rows[clip.rows >= 0]], 1)
    expected = hits.sum() / len(hits)
    assert (np.abs(hits - expected) < 6 * np.sqrt(expected)).all()
    assert spec.num_patches > len(np.unique(plain.read_clip(0, np.arange(1)).patches)) / views
    assert parts_of(tmp_path / "3.zarr") != parts_of(tmp_path / "0.zarr")
    assert reseeded.manifest.correspondence == "random"


def test_shifted_targets_are_those_of_the_patch_to_the_right(balls: Balls, tiny_vit: Path, tmp_path: Path) -> None:
    """By one patch: along each row, up to the last one."""
    teacher = load_teacher("hf", str(tiny_vit))
    shift, side = teacher.spec.patch_size, teacher.spec.patches_per_side
    plain = build(balls, teacher, tmp_path / "plain.zarr")
    shifted = build(balls, teacher, tmp_path / "shifted.zarr", correspondence=f"shifted:{shift}")
    for index, info in enumerate(plain.sequences):
        before, after = (store.read_clip(index, np.arange(info.num_frames)) for store in (plain, shifted))
        np.testing.assert_array_equal(before.rows < 0, after.rows < 0)
        seen = before.rows >= 0
        row, column = np.divmod(before.patches[before.rows[seen]], side)
        np.testing.assert_array_equal(after.patches[after.rows[seen]], row * side + np.minimum(column + 1, side - 1))


@pytest.mark.parametrize("batch_frames", [1, 3, 64])
def test_targets_do_not_depend_on_how_frames_are_batched(batch_frames: int, balls: Balls, tiny_vit: Path, tmp_path: Path) -> None:
    teacher = load_teacher("hf", str(tiny_vit))
    expected = build(balls, teacher, tmp_path / "expected.zarr", batch_frames=8)
    found = build(balls, teacher, tmp_path / "found.zarr", batch_frames=batch_frames, frames_per_part=1000)
    for index, info in enumerate(expected.sequences):
        frames = np.arange(info.num_frames)
        before, after = expected.read_clip(index, frames), found.read_clip(index, frames)
        for name in ("points", "rows", "features", "patches", "frame_features"):
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


@pytest.mark.parametrize("views", [2, 4])
def test_a_point_has_a_row_for_every_view_that_sees_it(views: int, balls: Balls, tiny_vit: Path, tmp_path: Path) -> None:
    teacher = load_teacher("hf", str(tiny_vit))
    store = build(balls, teacher, tmp_path / "store.zarr", views=views)
    clip = store.read_clip(0, np.arange(LENGTHS[0]))
    assert clip.rows.shape == (len(clip.points), views)
    for view in range(views):
        rows = clip.rows[clip.rows[:, view] >= 0, view]
        assert len(rows) > 0
        assert (clip.patches[rows] // teacher.spec.num_patches == view).all()
    assert (clip.rows >= 0).any(axis=1).mean() > (clip.rows[:, 0] >= 0).mean()


def parts_of(store: Path) -> dict[str, bytes]:
    """Bytes of every array file of a store, by array and part."""
    return {file.relative_to(store).as_posix(): file.read_bytes() for file in sorted(store.glob("parts/*/*/c/**/*")) if file.is_file()}


@pytest.fixture(params=["hf", "vjepa2"])
def any_teacher(request: pytest.FixtureRequest, tiny_vit: Path, tiny_vjepa2: Path) -> Teacher:
    """An image teacher, and a video teacher whose windows overlap and are longer than some sequences."""
    return load_teacher("hf", str(tiny_vit)) if request.param == "hf" else load_teacher("vjepa2", str(tiny_vjepa2), window=4)


def test_shuffled_targets_are_those_of_the_frame_in_another_order(balls: Balls, any_teacher: Teacher, tmp_path: Path) -> None:
    """In every frame and view, among the points that are seen; nothing else in the store differs."""
    plain = build(balls, any_teacher, tmp_path / "plain.zarr", views=2)
    shuffled = build(balls, any_teacher, tmp_path / "shuffled.zarr", views=2, correspondence="shuffled")
    moved = []
    for index, info in enumerate(plain.sequences):
        for frame in range(info.num_frames):
            before, after = (store.read_clip(index, np.array([frame])).rows for store in (plain, shuffled))
            np.testing.assert_array_equal(before < 0, after < 0)
            np.testing.assert_array_equal(np.sort(before, axis=0), np.sort(after, axis=0))
            moved += [(before[:, view] != after[:, view])[before[:, view] >= 0].mean() for view in range(2)]
    assert min(moved) > 0.3
    files, others = parts_of(tmp_path / "plain.zarr"), parts_of(tmp_path / "shuffled.zarr")
    assert files.keys() == others.keys()
    assert {name.split("/")[2] for name in files if files[name] != others[name]} == {"patch_slot"}
    assert plain.manifest.fingerprint != shuffled.manifest.fingerprint
    assert plain.manifest.differences(shuffled.manifest) == ["correspondence: zbuffer here, shuffled there"]
    assert [part.num_visible for part in plain.manifest.parts] == [part.num_visible for part in shuffled.manifest.parts]


def test_a_shuffle_depends_on_the_seed_and_not_on_how_frames_are_batched(balls: Balls, any_teacher: Teacher, tmp_path: Path) -> None:
    first, again, rebatched, reseeded = (
        build(balls, any_teacher, tmp_path / f"{number}.zarr", correspondence="shuffled", points_per_frame=200, **settings)
        for number, settings in enumerate([{}, {}, {"batch_frames": 1, "frames_per_part": 3}, {"seed": 1}])
    )
    assert parts_of(tmp_path / "0.zarr") == parts_of(tmp_path / "1.zarr")
    assert first.manifest == again.manifest
    for index, info in enumerate(first.sequences):
        rows, same, other = (store.read_clip(index, np.arange(info.num_frames)).rows for store in (first, rebatched, reseeded))
        np.testing.assert_array_equal(rows, same)
        assert (rows != other).any()
        np.testing.assert_array_equal(rows < 0, other < 0)


def test_shuffles_of_frames_and_views_differ(make_ball: MakeBall) -> None:
    """Equal frames, so that equal generators would show; also from the thinning of the same sequence."""
    ball = make_ball(1, num_points=200)
    count = len(ball.points)
    info = ball.info.model_copy(update={"num_frames": 2})
    twice = replace(ball, info=info, points=np.tile(ball.points, (2, 1)), point_offsets=np.array([0, count, 2 * count]))
    prepared = prepare(twice.info, twice.frames(), RenderSettings(image_size=32), points_per_frame=200, seed=7)
    window = Window(frames=(0, 1, 1, 1), first_owned=0, end_owned=2)
    item = SequenceWindow(sequence=prepared, window=window, views=prepared.views[0])
    slots = np.tile(np.arange(count, dtype=np.uint16)[:, None], (2, 2))
    shuffled = shuffle(slots, item, 7)
    orders = [shuffled[start : start + count, view].tolist() for start in (0, count) for view in range(2)]
    orders.append(np.random.default_rng([7, zlib.crc32(info.id.encode())]).permutation(count).tolist())
    assert len({tuple(order) for order in orders}) == 5
    assert all(sorted(order) == list(range(count)) for order in orders)
    late = replace(item, window=Window(frames=(0, 0, 0, 1), first_owned=3, end_owned=4))
    np.testing.assert_array_equal(shuffle(slots[count:], late, 7), shuffled[count:])


def test_position_gives_every_patch_its_own_target_in_all_frames(balls: Balls, tmp_path: Path) -> None:
    store = build(balls, load_teacher("position"), tmp_path / "store.zarr")
    table = load_teacher("position")(torch.zeros(1, 1, 112, 112)).tokens[0, 0].half().numpy()
    for index, info in enumerate(store.sequences):
        clip = store.read_clip(index, np.arange(info.num_frames))
        np.testing.assert_array_equal(clip.features, table[clip.patches])


def test_every_stored_row_is_some_points_target(balls: Balls, tiny_vjepa2: Path, tmp_path: Path) -> None:
    store = build(balls, load_teacher("vjepa2", str(tiny_vjepa2), window=4), tmp_path / "store.zarr")
    for index, info in enumerate(store.sequences):
        clip = store.read_clip(index, np.arange(info.num_frames))
        assert set(clip.rows[clip.rows >= 0]) == set(range(len(clip.features)))


def test_frames_of_a_tubelet_share_their_rows(balls: Balls, tiny_vjepa2: Path, tmp_path: Path) -> None:
    store = build(balls, load_teacher("vjepa2", str(tiny_vjepa2), window=4), tmp_path / "store.zarr")
    clip = store.read_clip(1, np.arange(4))
    first, second, third, _ = (
        set(clip.rows[a:b][clip.rows[a:b] >= 0]) for a, b in zip(clip.point_offsets, clip.point_offsets[1:], strict=False)
    )
    assert first & second
    assert not second & third
    np.testing.assert_array_equal(clip.frame_features[0], clip.frame_features[1])


def test_projection_is_applied_and_stored(balls: Balls, tiny_vit: Path, tmp_path: Path) -> None:
    teacher = load_teacher("hf", str(tiny_vit))
    raw = build(balls, teacher, tmp_path / "raw.zarr", projection="none").read_clip(0, np.arange(3))
    store = build(balls, teacher, tmp_path / "store.zarr", projection="random:8")
    matrix = store.projection()
    assert matrix is not None
    assert matrix.shape == (32, 8)
    found = store.read_clip(0, np.arange(3))
    np.testing.assert_allclose(found.features, raw.features.astype(np.float32) @ matrix, atol=2e-2)


def test_narrow_features_are_not_projected() -> None:
    assert make_projection("random:384", 192, 0).matrix is None
    assert make_projection("random:384", 1024, 0).record.channels == 384


def test_random_projection_keeps_lengths_and_angles_roughly() -> None:
    projection = make_projection("random:384", 1024, 0).matrix
    assert projection is not None
    features = np.random.default_rng(0).standard_normal((50, 1024)).astype(np.float32)
    lengths = np.linalg.norm(features @ projection, axis=1) / np.linalg.norm(features, axis=1)
    assert np.abs(lengths - 1).max() < 0.2


@pytest.mark.parametrize("spec", ["random", "random:0", "random:-3", "pca", "pca:0", "random:1e3", ""])
def test_misspelt_projections_are_refused(spec: str) -> None:
    with pytest.raises(SettingsError):
        make_projection(spec, 32, 0)


def slow_components(features: np.ndarray, width: int) -> np.ndarray:
    """Singular vectors of the features about their mean, as columns."""
    exact = features.astype(np.float64)
    return np.linalg.svd(exact - exact.mean(axis=0), full_matrices=False)[2][:width].T


def test_principal_components_are_those_of_a_singular_value_decomposition() -> None:
    rng = np.random.default_rng(0)
    features = (rng.standard_normal((300, 12)) * np.arange(1, 13) @ rng.standard_normal((12, 12)) + 5).astype(np.float16)
    components = PrincipalComponents(12)
    for start in range(0, 300, 70):
        components.add(features[start : start + 70])
    found = components.directions(5)
    expected = slow_components(features, 5)
    np.testing.assert_allclose(np.abs((found * expected).sum(axis=0)), 1, atol=1e-6)
    assert (found[np.abs(found).argmax(axis=0), np.arange(5)] > 0).all()
    with pytest.raises(SettingsError, match="300 patch features"):
        components.directions(300)


def fitted(dataset: Dataset, teacher: Teacher, settings: BuildSettings, out: Path) -> ProjectionFit:
    fit = ProjectionFit(dataset, teacher, settings, out)
    assert list(fit.run())[-1:] in ([], [fit.num_frames])
    return fit


def test_a_fitted_projection_is_that_of_the_stored_features(balls: Balls, any_teacher: Teacher, tmp_path: Path) -> None:
    """All sequences fit into the sample here, so its components are those of all rows of a store without projection."""
    raw = build(balls, any_teacher, tmp_path / "raw.zarr", projection="none")
    settings = BuildSettings(projection="pca:6", points_per_frame=120, frames_per_part=10)
    fit = fitted(balls, any_teacher, settings, tmp_path / "store.zarr")
    rows = np.concatenate([raw.read_clip(index, np.arange(info.num_frames)).features for index, info in enumerate(raw.sequences)])
    expected = slow_components(rows, 6)
    assert fit.matrix is not None
    np.testing.assert_allclose(np.abs((fit.matrix * expected).sum(axis=0)), 1, atol=1e-4)
    for _ in Build(balls, any_teacher, plan_build(balls, any_teacher, settings, fit.matrix), tmp_path / "store.zarr").run():
        pass
    store = open_cache(tmp_path / "store.zarr")
    assert (store.manifest.projection.kind, store.manifest.projection.channels) == ("pca", 6)
    np.testing.assert_array_equal(store.projection(), fit.matrix)
    before, after = (cache.read_clip(1, np.arange(3)) for cache in (raw, store))
    np.testing.assert_allclose(after.features, before.features.astype(np.float32) @ fit.matrix, atol=2e-2)
    again = fitted(balls, any_teacher, settings, tmp_path / "store.zarr")
    assert again.num_frames == 0  # a store that was begun keeps its matrix
    np.testing.assert_array_equal(again.matrix, fit.matrix)


def test_nothing_is_fitted_without_need(balls: Balls, tiny_vit: Path, tmp_path: Path) -> None:
    teacher = load_teacher("hf", str(tiny_vit))
    for projection in ("random:8", "none", "pca:32"):
        fit = fitted(balls, teacher, BuildSettings(projection=projection), tmp_path)
        assert (fit.num_frames, fit.matrix) == (0, None)


def test_stored_points_are_the_ones_that_were_rendered(balls: Balls, tiny_vit: Path, tmp_path: Path) -> None:
    teacher = load_teacher("hf", str(tiny_vit))
    store = build(balls, teacher, tmp_path / "store.zarr")
    info = store.sequences[0]
    prepared = prepare(info, balls.frames(info), store.manifest.render, points_per_frame=120, seed=0)
    np.testing.assert_array_equal(store.read_clip(0, np.arange(info.num_frames)).points, prepared.points)
    for found, expected in zip(store.cameras(0, 0), prepared.views[0].cameras, strict=True):
        np.testing.assert_array_equal(found.world_to_camera, expected.world_to_camera)
        np.testing.assert_array_equal(found.intrinsics, expected.intrinsics)


def test_limit_and_exclude_choose_sequences(balls: Balls, tiny_vit: Path) -> None:
    teacher = load_teacher("hf", str(tiny_vit))
    plan = plan_build(balls, teacher, BuildSettings(limit=2, exclude=("ball0",)))
    assert [info.id for part in plan.parts for info in part] == ["ball1", "ball2"]
    with pytest.raises(SettingsError, match="ball9"):
        plan_build(balls, teacher, BuildSettings(exclude=("ball9",)))
    with pytest.raises(SettingsError, match="no sequence"):
        plan_build(balls, teacher, BuildSettings(exclude=tuple(info.id for info in balls.sequences())))


def test_the_record_of_software_is_of_what_is_installed(balls: Balls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some teachers need no transformers, and no build needs zarr."""

    def version(name: str) -> str:
        if name in ("transformers", "zarr"):
            raise PackageNotFoundError(name)
        return "1.2"

    monkeypatch.setattr(plan, "version", version)
    software = plan.plan_build(balls, load_teacher("position"), BuildSettings()).manifest.software
    assert software.keys() == {"python", "cross4d", "torch", "numpy"}
    assert software["torch"] == "1.2"


def test_more_patches_than_a_slot_can_tell_apart_are_refused(balls: Balls, tiny_vit: Path) -> None:
    teacher = load_teacher("hf", str(tiny_vit))
    with pytest.raises(SettingsError, match="views"):
        plan_build(balls, teacher, BuildSettings(views=65_535 // teacher.spec.num_patches + 1))


def test_an_error_does_not_wait_for_what_is_being_read_ahead(balls: Balls, tiny_vit: Path, tmp_path: Path) -> None:
    """The second of five sequences is damaged; while the third is being read, those after it still wait, and are dropped."""
    read: list[str] = []
    noticed = threading.Event()

    class Damaged(Balls):
        def frames(self, info: SequenceInfo) -> Iterator[Frame]:
            read.append(info.id)
            if info.id == "ball1":
                raise DatasetError("damaged")
            if info.id == "ball2":
                noticed.wait(timeout=20)
            return super().frames(info)

    dataset = Damaged([balls.read(info) for info in balls.sequences()])
    teacher = load_teacher("hf", str(tiny_vit))
    run = Build(dataset, teacher, plan_build(dataset, teacher, BuildSettings(frames_per_part=1000)), tmp_path / "store.zarr").run()
    shutdown = ThreadPoolExecutor.shutdown

    def announced(self: ThreadPoolExecutor, *args: object, **kwargs: object) -> None:
        shutdown(self, wait=False, cancel_futures=bool(kwargs.get("cancel_futures")))
        noticed.set()
        shutdown(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ThreadPoolExecutor, "shutdown", announced)
        with pytest.raises(DatasetError, match="damaged"):
            list(run)
    assert read == ["ball0", "ball1", "ball2"]


def test_slots_that_lie_outside_their_table_are_corrupt(balls: Balls, tiny_vit: Path, tmp_path: Path) -> None:
    """As a hand-made store could have them, with all hashes right."""
    teacher = load_teacher("hf", str(tiny_vit))
    plan = plan_build(balls, teacher, BuildSettings(points_per_frame=50))
    build = Build(balls, teacher, plan, tmp_path / "store.zarr")
    commit = build.writer.commit
    build.writer.commit = lambda number, contents: commit(number, replace(contents, patch_slot=np.full_like(contents.patch_slot, 40)))  # type: ignore[method-assign]
    for _ in build.run():
        pass
    with pytest.raises(CacheCorruptError, match="outside its table"):
        open_cache(tmp_path / "store.zarr").read_clip(0, np.arange(2))


def test_the_same_weights_under_another_name_go_on_with_a_store(balls: Balls, tiny_vit: Path, tmp_path: Path) -> None:
    build(balls, load_teacher("hf", str(tiny_vit)), tmp_path / "store.zarr")
    moved = tmp_path / "another-name"
    shutil.copytree(tiny_vit, moved)
    assert build(balls, load_teacher("hf", str(moved)), tmp_path / "store.zarr").manifest.complete


def test_labels_come_back_with_their_points(tiny_vit: Path, tmp_path: Path) -> None:
    dataset = open_dataset("synthetic", options={"num_humans": "2", "num_animals": "0", "max_frames": "24"})
    store = build(dataset, load_teacher("hf", str(tiny_vit)), tmp_path / "store.zarr", limit=2, points_per_frame=4096)
    for index, info in enumerate(store.sequences):
        sequence = dataset.read(info)
        prepared = prepare(info, dataset.frames(info), store.manifest.render, points_per_frame=4096, seed=0)
        clip = store.read_clip(index, np.arange(info.num_frames), labels=True)
        np.testing.assert_array_equal(clip.part_labels, prepared.part_labels)
        np.testing.assert_array_equal(clip.surface_ids, prepared.surface_ids)
        # A thinned point is one of the originals: of the same place (to the grid's step) comes the same label.
        first = slice(0, int(clip.point_offsets[1]))
        distance = np.linalg.norm(clip.points[first][:50, None] - sequence.frame(0)[None], axis=2)
        nearest = distance.argmin(axis=1)
        assert distance.min(axis=1).max() < 1e-4
        assert sequence.part_labels is not None
        assert clip.part_labels is not None
        np.testing.assert_array_equal(clip.part_labels[:50], sequence.part_labels[nearest])


def test_a_sequence_without_labels_does_not_erase_those_of_its_part(balls: Balls, tiny_vit: Path, tmp_path: Path) -> None:
    """The second of the sequences of one part has parts and actions, the others have none."""
    infos = balls.sequences()
    made = [balls.read(info) for info in infos]
    parts = np.arange(len(made[1].points)).astype(np.uint16) % 5
    actions = np.arange(infos[1].num_frames).astype(np.int16) - 1
    made[1] = replace(made[1], part_labels=parts, frame_actions=actions)
    store = build(Balls(made), load_teacher("hf", str(tiny_vit)), tmp_path / "store.zarr", frames_per_part=1000, points_per_frame=4096)
    clips = [store.read_clip(index, np.arange(info.num_frames), labels=True) for index, info in enumerate(infos)]
    np.testing.assert_array_equal(clips[1].part_labels, parts)
    np.testing.assert_array_equal(clips[1].frame_actions, actions)
    for index in (0, 2):
        assert set(clips[index].part_labels.tolist()) == {UNLABELLED_PART}  # type: ignore[union-attr]
        assert set(clips[index].frame_actions.tolist()) == {UNLABELLED}  # type: ignore[union-attr]
    assert all(clip.surface_ids is None for clip in clips)


def test_thinning_keeps_tracks_whole() -> None:
    """The same surface ids in every frame: the same ones are kept; where they change, points are chosen anew."""
    rng = np.random.default_rng(0)
    ids = [np.arange(500, dtype=np.uint32)] * 3 + [np.arange(500, 1000, dtype=np.uint32)] * 2
    frames = [Frame(points=rng.random((500, 3), np.float32), surface_ids=numbers) for numbers in ids]
    thinned = thin(SequenceInfo(id="tracks", num_frames=5), frames, points_per_frame=100, seed=0)
    assert thinned.surface_ids is not None
    kept = thinned.surface_ids.reshape(5, 100)
    assert (kept[:3] == kept[0]).all()
    assert (kept[3:] == kept[3]).all()
    assert not np.array_equal(kept[0], kept[3] - 500)
    for t, frame in enumerate(frames):
        np.testing.assert_array_equal(thinned.frame(t), frame.points[kept[t] % 500])
