"""Points that lie several times are one place: they neither close gaps nor use up `--points`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cross4d_cache.build.engines.local import Build
from cross4d_cache.build.plan import plan_build
from cross4d_cache.build.preparation import thin
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.datasets import open_dataset
from cross4d_cache.rendering.camera import place_cameras
from cross4d_cache.rendering.camera.density import counted_rows, is_tracked, splat_size
from cross4d_cache.rendering.repeats import first_at_place
from cross4d_cache.store import Cache, open_cache
from cross4d_cache.teachers import load_teacher
from cross4d_cache.types import Frame, RenderSettings, SequenceInfo

OLD, NEW = RenderSettings(image_size=224), RenderSettings(image_size=224, density="places")
FEW = arrays(np.float32, st.tuples(st.integers(0, 40), st.just(3)), elements=st.sampled_from(np.float32([-1, -0.0, 0.0, 1, 1e-30])))


@given(FEW)
def test_the_first_at_each_place_are_those_of_a_slow_search(points: np.ndarray) -> None:
    places: set[tuple[float, ...]] = set()
    expected = []
    for point in points.tolist():
        expected.append(tuple(point) not in places)  # zero equals minus zero
        places.add(tuple(point))
    assert first_at_place(points).tolist() == expected


def ball(count: int, seed: int = 0) -> np.ndarray:
    directions = np.random.default_rng(seed).standard_normal((count, 3))
    return (directions / np.linalg.norm(directions, axis=1, keepdims=True) + [0, 0, 3]).astype(np.float32)


REPEATED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tiled": lambda points: np.tile(points, (4, 1)),
    "each thirty times": lambda points: np.repeat(points, 30, axis=0),
    "padded": lambda points: np.concatenate([points, np.repeat(points[-1:], 1348, axis=0)]),
    "drawn": lambda points: np.concatenate([points, points[np.random.default_rng(0).integers(0, len(points), 1000)]]),
}


@pytest.mark.parametrize("name", REPEATED)
def test_repeats_do_not_change_the_splat_size(name: str) -> None:
    once = ball(700)
    offsets = np.array([0, len(once)])
    again = REPEATED[name](once)
    repeated = np.array([0, len(again)])
    expected = place_cameras(once, offsets, NEW).splat_sizes
    assert expected == place_cameras(once, offsets, OLD).splat_sizes
    # Cameras aim at the mean of the rows; seen from the same one, the images are the same.
    camera = place_cameras(once, offsets, NEW).cameras[0]
    pixels, _ = camera.project(again)
    assert splat_size([pixels[rows] for rows in counted_rows(again, repeated, NEW)], NEW) == expected[0]
    if name != "padded":
        assert splat_size([pixels[rows] for rows in counted_rows(again, repeated, OLD)], OLD) < expected[0]


@pytest.fixture
def body_store(tmp_path: Path) -> Callable[..., Cache]:
    """A store of three frames of a ball, whose files hold what `repeat` makes of its points."""

    def build(name: str, repeat: Callable[[np.ndarray], np.ndarray], points: int) -> Cache:
        (tmp_path / name / "ball").mkdir(parents=True)
        for frame in range(3):
            np.save(tmp_path / name / "ball" / f"{frame}.npy", repeat(ball(600, frame)))
        dataset, teacher = open_dataset("folder", tmp_path / name), load_teacher("tiny")
        plan = plan_build(dataset, teacher, BuildSettings(points_per_frame=points))
        for _ in Build(dataset, teacher, plan, tmp_path / f"{name}.zarr").run():
            pass
        return open_cache(tmp_path / f"{name}.zarr")

    return build


@pytest.mark.parametrize("points", [400, 4096])
def test_a_store_of_repeated_points_is_that_of_each_once(body_store: Callable[..., Cache], points: int) -> None:
    once = body_store("once", lambda points: points, points).read_clip(0, np.arange(3))
    for number, repeat in enumerate(REPEATED.values()):
        clip = body_store(str(number), repeat, points).read_clip(0, np.arange(3))
        for name in ("points", "point_offsets", "rows", "patches", "features"):
            np.testing.assert_array_equal(getattr(clip, name), getattr(once, name))


def test_repeats_do_not_use_up_the_points_of_a_frame() -> None:
    points = np.repeat(ball(100), 30, axis=0)
    info = SequenceInfo(id="ball", num_frames=1)
    thinned = thin(info, [Frame(points=points)], points_per_frame=80, seed=0)
    assert len(np.unique(thinned.points, axis=0)) == 80
    as_before = thin(info, [Frame(points=points)], points_per_frame=80, seed=0, repeats=True)
    assert len(np.unique(as_before.points, axis=0)) < 60  # 100 (1 - .99^80) = 55 are to be expected


def test_tracks_with_repeats_stay_whole() -> None:
    ids = np.arange(200, dtype=np.uint32)
    frames = [Frame(points=np.tile(ball(100, seed), (2, 1)), surface_ids=ids) for seed in range(3)]
    thinned = thin(SequenceInfo(id="tracks", num_frames=3), frames, points_per_frame=4096, seed=0)
    assert thinned.surface_ids is not None
    np.testing.assert_array_equal(thinned.surface_ids.reshape(3, -1), [np.arange(100)] * 3)
    assert is_tracked(thinned.surface_ids, thinned.point_offsets)


def test_each_third_of_tracked_points_closes_its_gaps() -> None:
    """The same points in all frames: the size is the largest of those that the thirds ask for."""
    differ = 0
    for seed in range(8):
        points, frames = ball(900, seed), 4
        offsets = np.arange(frames + 1) * len(points)
        pixels, _ = place_cameras(points, offsets[:2], NEW).cameras[0].project(points)
        pixels, rows = np.tile(pixels, (frames, 1)), counted_rows(np.tile(points, (frames, 1)), offsets, NEW)
        thirds = [splat_size([pixels[frame[start:]] for frame in rows], NEW) for start in range(3)]
        assert splat_size([pixels[frame] for frame in rows], NEW) == thirds[0]
        assert splat_size([pixels[frame] for frame in rows], NEW, tracked=True) == max(thirds)
        differ += max(thirds) > thirds[0]
    assert differ


def test_frames_of_other_points_are_not_tracked() -> None:
    ids = np.array([0, 1, 2, 0, 1, 2], dtype=np.uint32)
    assert is_tracked(ids, np.array([0, 3, 6]))
    assert not is_tracked(None, np.array([0, 3, 6]))
    assert not is_tracked(ids, np.array([0, 2, 6]))
    assert not is_tracked(ids[::-1].copy(), np.array([0, 2, 4, 6]))
    assert not is_tracked(ids[:3], np.array([0, 3]))
