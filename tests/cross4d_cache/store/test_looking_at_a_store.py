"""A store as an object: its size, what it says of itself, frames, and the target of every point."""

from pathlib import Path

import numpy as np
import pytest

from cross4d_cache import open_cache
from cross4d_cache.build.engines.local import Build
from cross4d_cache.build.plan import plan_build
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.datasets import open_dataset
from cross4d_cache.teachers import load_teacher
from cross4d_cache.types import CachedClip, SequenceInfo
from tests.conftest import MSR_LENGTHS


def test_a_store_says_what_it_is(small_store: Path) -> None:
    cache = open_cache(small_store)
    parts = cache.manifest.parts
    assert len(cache) == len(cache.sequences) == len(MSR_LENGTHS)
    assert repr(cache) == (
        f"<Cache {small_store}: msr_action3d, 6 sequences, {sum(MSR_LENGTHS.values())} frames,"
        f" {sum(part.num_points for part in parts):,} points; targets of hf, 16 channels, 2 views;"
        f" {sum(part.bytes for part in parts) / 1e6:.0f} MB>"
    )


def test_an_empty_store_is_true_as_any_object(small_store: Path) -> None:
    cache = open_cache(small_store)
    cache._first = np.zeros(1, np.int64)
    assert len(cache) == 0
    assert cache


def test_points_are_those_of_a_clip_frame_by_frame(small_store: Path) -> None:
    cache = open_cache(small_store)
    for index, info in enumerate(cache.sequences):
        frames, clip = cache.points(index), cache.read_clip(index, np.arange(info.num_frames), labels=True)
        assert [len(points) for points in frames] == np.diff(clip.point_offsets).tolist()
        np.testing.assert_array_equal(np.concatenate(frames), clip.points)
        last = cache.frame(index, info.num_frames - 1)
        np.testing.assert_array_equal(last.points, frames[-1])
        assert last.rows.shape == (len(frames[-1]), 2)
    for index, frame in ((-1, 0), (6, 0), (0, 99), (0, -1)):
        with pytest.raises(IndexError):
            cache.frame(index, frame)


def test_a_target_is_the_mean_over_the_views_that_see_the_point() -> None:
    """Four points of a frame seen by two views: by both, by the first, by the second, by none."""
    clip = CachedClip(
        info=SequenceInfo(id="a", num_frames=1),
        frames=np.array([0]),
        points=np.zeros((4, 3), np.float32),
        point_offsets=np.array([0, 4]),
        rows=np.array([[0, 1], [1, -1], [-1, 2], [-1, -1]], np.int32),
        features=np.array([[1, 2], [3, 6], [5, 5]], np.float16),
        patches=np.arange(3, dtype=np.uint16),
        frame_features=np.zeros((1, 2), np.float16),
    )
    targets, visible = clip.targets()
    assert targets.tolist() == [[2, 4], [3, 6], [5, 5], [0, 0]]
    assert visible.tolist() == [True, True, True, False]


def test_without_targets_none_is_visible(small_store: Path) -> None:
    clip = open_cache(small_store).read_clip(0, np.arange(2), targets=False)
    targets, visible = clip.targets()
    assert targets.shape == (len(clip.points), 0)
    assert not visible.any()


def test_a_store_of_points_alone_says_so(msr_folder: Path, tmp_path: Path) -> None:
    dataset, teacher = open_dataset("msr_action3d", msr_folder), load_teacher("none")
    list(Build(dataset, teacher, plan_build(dataset, teacher, BuildSettings(points_per_frame=50)), tmp_path / "store").run())
    assert "points; no targets; " in repr(open_cache(tmp_path / "store"))
