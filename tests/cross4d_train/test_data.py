import os
import pickle
import shutil

import numpy as np
import pytest
import torch

from cross4d_cache.errors import CacheCorruptError
from cross4d_train import dataset as datasets
from cross4d_train.clips import ClipRequest, ClipSettings, epoch_requests
from cross4d_train.data import BatchLoader, collate
from cross4d_train.dataset import ClipDataset
from tests.cross4d_train.conftest import make_infos, write_store

CLIPS = ClipSettings(num_frames=3, num_points=64, stride=2)


@pytest.fixture
def dataset(store):
    return ClipDataset(store, CLIPS)


def requests_of(dataset, epoch=0):
    return epoch_requests(CLIPS, dataset.cache.sequences, range(6), clips_per_sequence=1, seed=0, epoch=epoch)


def test_points_carry_their_own_targets(dataset):
    """Each chosen point is a stored point of its frame, and its rows still give the features it had in the store."""
    request = ClipRequest(sequence=1, start=1, key=(0, 0, 1))
    clip = dataset[request]
    frames = CLIPS.frames(dataset.cache.sequences[1], 1)
    stored = dataset.cache.read_clip(1, frames)
    assert clip.points.shape == (3, 64, 3)
    for frame in range(3):
        span = slice(stored.point_offsets[frame], stored.point_offsets[frame + 1])
        where = (clip.points[frame][:, None] == stored.points[span][None]).all(axis=-1).argmax(axis=1)
        assert np.array_equal(stored.points[span][where], clip.points[frame])
        rows, kept = stored.rows[span][where], clip.rows[frame]
        assert np.array_equal(rows >= 0, kept >= 0)
        assert np.array_equal(stored.features[rows[rows >= 0]], clip.features[kept[kept >= 0]])
        assert np.array_equal(stored.patches[rows[rows >= 0]], clip.patches[kept[kept >= 0]])


def test_only_features_that_a_point_refers_to_are_kept(dataset):
    few = ClipDataset(dataset.path, ClipSettings(num_frames=3, num_points=2, stride=2))
    clip = few[ClipRequest(sequence=1, start=1, key=(0,))]
    assert set(clip.rows[clip.rows >= 0].tolist()) == set(range(len(clip.features)))
    assert len(clip.features) == len(clip.patches) <= 3 * 2 * 2


@pytest.mark.parametrize("memory", [0, 60_000, 2**29])
def test_sequences_held_in_memory_change_nothing(store, monkeypatch, memory):
    monkeypatch.setattr(datasets, "MEMORY", memory)
    dataset, streamed = (ClipDataset(store, CLIPS, labels=True) for _ in range(2))
    monkeypatch.setattr(streamed, "_bytes_left", 0)
    for epoch in range(2):
        for request in requests_of(dataset, epoch):
            held, read = vars(dataset[request]), vars(streamed[request])
            assert all(np.array_equal(held[name], read[name]) for name in held)
    assert not streamed._held
    fewest, most = {0: (0, 0), 60_000: (1, 5), 2**29: (6, 6)}[memory]
    assert fewest <= len(dataset._held) <= most


def test_a_touch_under_a_stream_changes_nothing(store, tmp_path):
    """As `find STORE -type f -exec touch {} +` does it, and copies that keep no time stamps."""
    copy = shutil.copytree(store, tmp_path / "store")
    streamed = ClipDataset(copy, CLIPS, labels=True)
    vars(streamed)["_bytes_left"] = 0
    before = [vars(streamed[request]) for request in requests_of(streamed)]
    for path in copy.rglob("*"):
        os.utime(path, (2e9, 2e9))
    for request, clip in zip(requests_of(streamed), before, strict=True):
        again = vars(streamed[request])
        assert all(np.array_equal(clip[name], again[name]) for name in clip)


def test_a_copy_for_a_worker_starts_without_memory(dataset):
    dataset[ClipRequest(sequence=0, start=0, key=(0,))]
    assert dataset._held
    assert not pickle.loads(pickle.dumps(dataset))._held


@pytest.mark.parametrize("num_points", [16, 500])
def test_points_are_distinct_or_all_there(store, num_points):
    dataset = ClipDataset(store, ClipSettings(num_frames=2, num_points=num_points, stride=1))
    clip = dataset[ClipRequest(sequence=0, start=0, key=(1,))]
    stored = dataset.cache.read_clip(0, np.arange(2))
    for frame, count in enumerate(np.diff(stored.point_offsets)):
        assert len(np.unique(clip.points[frame], axis=0)) == min(num_points, count)


def test_choice_of_points_hangs_on_the_key_alone(dataset):
    one, other = (ClipRequest(sequence=0, start=0, key=(0, 0, item)) for item in range(2))
    first, second = dataset[one], dataset[other]
    assert np.array_equal(dataset[one].points, first.points)
    assert not np.array_equal(first.points, second.points)


def test_rows_of_a_batch_index_the_joined_features(dataset):
    clips = [dataset[request] for request in requests_of(dataset)[:3]]
    batch = collate(clips)
    assert batch.features.dtype == torch.float16
    assert batch.rows.dtype == torch.int32
    assert len(batch) == 3
    for index, clip in enumerate(clips):
        seen = clip.rows >= 0
        assert np.array_equal(batch.rows[index].numpy() >= 0, seen)
        joined = batch.features.numpy()[batch.rows[index].numpy()[seen]]
        assert np.array_equal(joined, clip.features[clip.rows[seen]])
        assert np.array_equal(batch.patches.numpy()[batch.rows[index].numpy()[seen]], clip.patches[clip.rows[seen]])


def test_points_carry_their_own_part(dataset, store):
    requests = requests_of(dataset)[:2]
    assert collate([dataset[request] for request in requests]).part_labels is None
    labelled = ClipDataset(store, CLIPS, labels=True)
    batch = collate([labelled[request] for request in requests])
    assert batch.part_labels.shape == batch.points.shape[:3]
    for index, request in enumerate(requests):
        info = dataset.cache.sequences[request.sequence]
        stored = dataset.cache.read_clip(request.sequence, CLIPS.frames(info, request.start), labels=True)
        part_of = dict(zip(map(tuple, stored.points.tolist()), stored.part_labels.tolist(), strict=True))
        assert set(part_of.values()) == {0, 1, 2}
        found = batch.points[index].flatten(0, 1).tolist()
        assert [part_of[tuple(point)] for point in found] == batch.part_labels[index].flatten().tolist()


def test_short_sequence_repeats_its_last_frame(dataset):
    clip = dataset[ClipRequest(sequence=5, start=0, key=(0,))]
    known = {tuple(point) for point in dataset.cache.read_clip(5, np.array([2])).points.tolist()}
    assert {tuple(point) for point in clip.points[2].tolist()} <= known


def test_without_targets_there_are_no_features(store):
    dataset = ClipDataset(store, CLIPS, targets=False)
    batch = collate([dataset[request] for request in requests_of(dataset)[:2]])
    assert batch.rows.shape == (2, 3, 64, 0)
    assert batch.features.numel() == 0


def test_a_clip_needs_no_part_but_its_own(small_store, tmp_path):
    store = shutil.copytree(small_store, tmp_path / "store.zarr")
    for part in sorted((store / "parts").glob("[0-9]*"))[1:]:
        shutil.rmtree(part)
    assert ClipDataset(store, CLIPS)[ClipRequest(sequence=0, start=0, key=(0,))].points.shape == (3, 64, 3)


def test_dataset_is_pickled_without_its_open_store(dataset):
    assert dataset.cache.sequences
    assert "cache" not in pickle.loads(pickle.dumps(dataset)).__dict__


def test_workers_change_nothing(dataset):
    batches = [requests_of(dataset)[:3], requests_of(dataset)[3:]]
    state = torch.random.get_rng_state()
    alone = list(BatchLoader(dataset).load(batches))
    loader = BatchLoader(dataset, num_workers=2)
    shared = [*loader.load(batches[:1]), *loader.load(batches[1:])]  # the same processes, twice
    assert torch.equal(torch.random.get_rng_state(), state)
    for mine, theirs in zip(alone, shared, strict=True):
        assert torch.equal(mine.points, theirs.points)
        assert torch.equal(mine.rows, theirs.rows)
        assert torch.equal(mine.features, theirs.features)
        assert torch.equal(mine.patches, theirs.patches)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_store_is_one_message_from_any_process(tmp_path, num_workers):
    path = write_store(tmp_path / "store.zarr", make_infos())
    dataset = ClipDataset(path, CLIPS)
    requests = requests_of(dataset)
    chunks = path / "parts" / "00000" / "features" / "c" / "0" / "0"
    data = bytearray(chunks.read_bytes())
    data[: len(data) // 2] = bytes(len(data) // 2)
    chunks.write_bytes(data)
    with pytest.raises(CacheCorruptError) as caught:
        list(BatchLoader(dataset, num_workers=num_workers).load([requests]))
    assert "Traceback" not in str(caught.value)
    assert "features" in str(caught.value)
