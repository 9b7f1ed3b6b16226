"""What is written is what is read, whatever the shapes, and however a clip picks its frames."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cross4d_cache.store import PartContents, open_cache
from tests.cross4d_cache.store.store_examples import assert_clip_is, load_arrays, make_part, slow_frame, two_parts, write_store

frame_counts = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=7), min_size=1, max_size=4)


def lengths(part: PartContents) -> list[int]:
    return [info.num_frames for info in part.sequences]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    counts=frame_counts,
    views=st.integers(1, 3),
    tubelet=st.integers(1, 3),
    most_rows=st.sampled_from([0, 1, 6]),
    part_labels=st.booleans(),
    surface_ids=st.booleans(),
    frame_actions=st.booleans(),
)
def test_whole_sequences_come_back_as_they_were_written(
    counts: list[list[int]], views: int, tubelet: int, most_rows: int, part_labels: bool, surface_ids: bool, frame_actions: bool
) -> None:
    part = make_part(
        counts,
        views=views,
        tubelet=tubelet,
        most_rows=most_rows,
        part_labels=part_labels,
        surface_ids=surface_ids,
        frame_actions=frame_actions,
        seed=len(counts),
    )
    with tempfile.TemporaryDirectory() as folder:
        cache = open_cache(write_store(Path(folder) / "store.zarr", [part], views=views))
        assert cache.sequences == part.sequences
        for number, sequence in enumerate(counts):
            clip = cache.read_clip(number, np.arange(len(sequence)), labels=True)
            assert clip.info == part.sequences[number]
            assert_clip_is(clip, [slow_frame(vars(part), lengths(part), number, t) for t in range(len(sequence))])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("clips") / "store.zarr", two_parts())


@pytest.fixture(scope="module")
def arrays(store: Path) -> list[dict[str, np.ndarray]]:
    return [load_arrays(store, part) for part in range(2)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(sequence=st.integers(0, 2), picks=st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_any_ascending_frames_equal_the_slow_reference(
    store: Path, arrays: list[dict[str, np.ndarray]], sequence: int, picks: list[int]
) -> None:
    part, local = divmod(sequence, 2)
    counts = lengths(two_parts()[part])
    frames = np.sort([pick % counts[local] for pick in picks])
    clip = open_cache(store).read_clip(sequence, frames, labels=True)
    np.testing.assert_array_equal(clip.frames, frames)
    assert_clip_is(clip, [slow_frame(arrays[part], counts, local, t) for t in frames.tolist()])


@pytest.mark.parametrize("frames", [[0, 1, 2, 3], [0, 3], [1, 1, 1], [0, 2, 3, 3, 3], [2]])
def test_strides_and_repeated_frames(store: Path, arrays: list[dict[str, np.ndarray]], frames: list[int]) -> None:
    clip = open_cache(store).read_clip(0, np.array(frames), labels=True)
    assert_clip_is(clip, [slow_frame(arrays[0], [4, 3], 0, t) for t in frames])


def test_a_clip_of_a_store_with_many_chunks(tmp_path: Path) -> None:
    part = make_part([[3000] * 9, [2500, 1, 2500]], views=1, tubelet=1, most_rows=200)
    assert len(part.features) > 256
    cache = open_cache(write_store(tmp_path / "store.zarr", [part], views=1))
    clip = cache.read_clip(0, np.array([4, 7, 8]), labels=True)
    assert_clip_is(clip, [slow_frame(vars(part), [9, 3], 0, t) for t in (4, 7, 8)])


def test_without_targets_and_labels_only_points_are_read(store: Path) -> None:
    cache = open_cache(store)
    full, bare = cache.read_clip(1, np.arange(3)), cache.read_clip(1, np.arange(3), targets=False)
    np.testing.assert_array_equal(bare.points, full.points)
    assert (bare.rows.shape, bare.features.shape, bare.frame_features.shape) == ((15, 0), (0, 0), (3, 0))
    assert full.part_labels is None
    assert full.surface_ids is None
    assert full.frame_actions is None


def test_cameras_come_back(store: Path) -> None:
    cameras = open_cache(store).cameras(2, 0)
    written = two_parts()[1]
    assert [camera.image_size for camera in cameras] == [32, 32]
    np.testing.assert_array_equal(np.array([camera.intrinsics for camera in cameras]), written.intrinsics[0])
    np.testing.assert_array_equal(np.array([camera.world_to_camera for camera in cameras]), written.world_to_camera[0])


@pytest.mark.parametrize("frames", [[], [-1, 0], [3, 4], [2, 1]])
def test_frames_that_are_not_there_or_not_ascending_are_refused(store: Path, frames: list[int]) -> None:
    with pytest.raises(IndexError, match="frames"):
        open_cache(store).read_clip(0, np.array(frames, np.int64))


@pytest.mark.parametrize("index", [-1, 3])
def test_sequences_that_are_not_there_are_refused(store: Path, index: int) -> None:
    cache = open_cache(store)
    with pytest.raises(IndexError, match="of 3"):
        cache.read_clip(index, np.arange(1))
    with pytest.raises(IndexError, match="of 3"):
        cache.cameras(index, 0)


def test_a_built_store_counts_what_it_holds(small_store: Path) -> None:
    cache = open_cache(small_store)
    clips = [cache.read_clip(number, np.arange(info.num_frames)) for number, info in enumerate(cache.sequences)]
    parts = cache.manifest.parts
    assert sum(part.num_points for part in parts) == sum(len(clip.points) for clip in clips)
    assert sum(part.num_rows for part in parts) == sum(len(clip.features) for clip in clips)
    assert sum(part.num_visible for part in parts) == sum(int((clip.rows >= 0).any(axis=1).sum()) for clip in clips)
    assert sum(part.num_frames for part in parts) == cache.manifest.plan.num_frames == 35
