import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from cross4d_cache.errors import SettingsError
from cross4d_cache.store import open_cache
from cross4d_cache.types import UNLABELLED_PART
from cross4d_train import StoreDataset
from tests.cross4d_train.conftest import CHANNELS, make_infos, write_store

SHAPE = {"num_frames": 3, "num_points": 40}


@pytest.fixture
def clips(store):
    return StoreDataset(store, **SHAPE, num_windows=2, targets=True)


def equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    return True


def test_items_are_clips_of_the_store_in_its_order(store, clips):
    assert isinstance(clips, Dataset)
    assert len(clips) == 24
    assert [clips[index]["sequence"] for index in range(len(clips))] == np.repeat(np.arange(12), 2).tolist()
    cache = open_cache(store)
    for index, start in ((0, 0), (1, cache.sequences[0].num_frames - 3)):
        item = clips[index]
        assert (item["points"].shape, item["points"].dtype) == ((3, 40, 3), np.float32)
        assert (item["targets"].shape, item["visible"].shape, item["part_labels"].shape) == ((3, 40, CHANNELS), (3, 40), (3, 40))
        assert item["action"] == cache.sequences[0].action
        for place in range(3):
            frame = cache.frame(0, start + place)
            targets, visible = frame.targets()
            for point in (0, 17, 39):
                [stored] = np.flatnonzero((frame.points == item["points"][place, point]).all(axis=1))
                np.testing.assert_array_equal(item["targets"][place, point], targets[stored])
                assert item["visible"][place, point] == visible[stored]
                assert item["part_labels"][place, point] == frame.part_labels[stored]


def test_a_plain_loader_makes_batches_of_it(clips):
    batches = list(DataLoader(clips, batch_size=10))
    assert [len(batch["points"]) for batch in batches] == [10, 10, 4]
    batch = batches[1]
    assert (batch["points"].shape, batch["points"].dtype) == ((10, 3, 40, 3), torch.float32)
    assert (batch["targets"].shape, batch["targets"].dtype) == ((10, 3, 40, CHANNELS), torch.float32)
    assert (batch["visible"].dtype, batch["part_labels"].dtype, batch["action"].dtype) == (torch.bool, torch.int64, torch.int64)
    assert equal({name: value[3] for name, value in batch.items()}, clips[13])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_processes_of_a_loader_give_the_same_items(clips, context):
    expected = [clips[index] for index in range(len(clips))]  # opened here before processes are forked
    loader = DataLoader(clips, batch_size=None, num_workers=1, multiprocessing_context=context)
    assert all(equal(found, item) for found, item in zip(loader, expected, strict=True))


def test_items_are_the_same_every_time_and_the_seed_draws_their_points(store, clips):
    again = pickle.loads(pickle.dumps(clips))
    other = StoreDataset(store, **SHAPE, num_windows=2, targets=True, seed=1)
    for index in (5, 0, -1):
        assert equal(clips[index], clips[index])
        assert equal(clips[index], again[index])
        assert not np.array_equal(clips[index]["points"], other[index]["points"])
    for index in (24, -25):
        with pytest.raises(IndexError):
            clips[index]
    assert len(list(clips)) == 24


def test_sides_and_recipes(store):
    training = StoreDataset(store, **SHAPE, side="train")
    assert [item["sequence"] for item in training] == list(range(8))
    assert StoreDataset(store).clips.num_points == 2048  # the recipe of datasets that the method did not use
    assert set(training[0]) == {"points", "action", "sequence", "part_labels"}
    with pytest.raises(SettingsError, match="no protocol 'mine'"):
        StoreDataset(store, side="train", protocol="mine")
    with pytest.raises(SettingsError, match="num_frames = 0"):
        StoreDataset(store, num_frames=0)


def test_sequences_without_labels_have_the_value_of_none(tmp_path):
    store = write_store(tmp_path / "store.zarr", make_infos()[:2], labels=False, targets=False)
    item = StoreDataset(store, **SHAPE, targets=True)[0]
    assert (item["part_labels"] == UNLABELLED_PART).all()
    assert not item["visible"].any()
    assert not item["targets"].any()
