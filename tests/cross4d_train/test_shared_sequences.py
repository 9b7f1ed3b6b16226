"""Sequences that processes share: what one puts in, all get, as it was; what does not fit is not kept, and nothing outlives them."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.store import open_cache
from cross4d_cache.types import CachedClip
from cross4d_cache.workers import Workers
from cross4d_train import dataset as datasets
from cross4d_train import shared_sequences
from cross4d_train.clips import ClipSettings, epoch_requests
from cross4d_train.data import BatchLoader, in_batches
from cross4d_train.dataset import ClipDataset
from cross4d_train.shared_sequences import SharedSequences

CLIPS = ClipSettings(num_frames=3, num_points=48, stride=1)


@pytest.fixture
def clip(store: Path) -> CachedClip:
    return open_cache(store).read_clip(1, np.arange(4), labels=True)


def assert_same(ours: CachedClip | None, theirs: CachedClip) -> None:
    assert ours is not None
    assert ours.info == theirs.info
    for name, value in vars(theirs).items():
        found = getattr(ours, name)
        if isinstance(value, np.ndarray):
            assert (found.dtype, found.shape) == (value.dtype, value.shape)
            assert found.tobytes() == value.tobytes()
            assert not found.flags.writeable or not found.size
        elif name != "info":
            assert found == value


def test_what_one_puts_in_all_get_as_it_was(clip: CachedClip) -> None:
    mine = SharedSequences(5, 2**20)
    other: SharedSequences = pickle.loads(pickle.dumps(mine))  # as another process has it: with a memory map of its own
    assert other.get(3) is None
    mine.put(3, clip)
    assert_same(other.get(3), clip)
    assert [other.get(number) is None for number in range(5)] == [True, True, True, False, True]


def test_several_lie_side_by_side_and_the_first_stays(store: Path, clip: CachedClip) -> None:
    shared, cache = SharedSequences(6, 2**22), open_cache(store)
    others = [cache.read_clip(number, np.arange(3), labels=True) for number in range(6)]
    for number, other in enumerate(others):
        shared.put(number, other)
        shared.put(number, clip)  # another process was first
    for number, other in enumerate(others):
        assert_same(shared.get(number), other)
    assert not shared.is_full


def test_what_finds_no_room_is_not_kept_and_what_is_there_stays(clip: CachedClip) -> None:
    num_bytes = sum(value.nbytes for value in vars(clip).values() if isinstance(value, np.ndarray))
    shared = SharedSequences(2, num_bytes + num_bytes // 2)
    shared.put(0, clip)
    assert not shared.is_full
    shared.put(1, clip)
    assert shared.is_full
    assert shared.get(1) is None
    assert_same(shared.get(0), clip)


def test_what_fits_to_the_byte_is_kept(clip: CachedClip) -> None:
    roomy = SharedSequences(1, 2**20)
    roomy.put(0, clip)
    taken = int(roomy._table[0]) - 64  # three numbers of the table fill 64 bytes
    for num_bytes, fits in ((taken, True), (taken - 1, False)):
        shared = SharedSequences(1, num_bytes)
        shared.put(0, clip)
        assert (shared.get(0) is not None) == fits
        assert shared.is_full != fits


def test_a_clip_without_targets_is_one_too(store: Path) -> None:
    clip = open_cache(store).read_clip(0, np.arange(2), targets=False)
    assert clip.features.size == 0
    shared = SharedSequences(1, 2**20)
    shared.put(0, clip)
    assert_same(shared.get(0), clip)


@pytest.mark.parametrize("memory", [0, 40_000, 2**26])
def test_processes_that_share_load_the_same_batches(store: Path, monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    monkeypatch.setattr(datasets, "MEMORY", memory)
    dataset = ClipDataset(store, CLIPS, labels=True)
    requests = epoch_requests(CLIPS, dataset.cache.sequences, range(6), clips_per_sequence=4, seed=0, epoch=0)
    alone, several = (list(BatchLoader(dataset, num_workers=number).load(in_batches(requests, 4))) for number in (0, 2))
    assert len(alone) == len(several) == 6
    for ours, theirs in zip(several, alone, strict=True):
        for name, value in vars(theirs).items():
            assert np.array_equal(getattr(ours, name), value) if hasattr(value, "numpy") else getattr(ours, name) == value


def test_what_one_process_decoded_another_does_not_read(store: Path) -> None:
    """The store is gone when the second one is asked."""
    dataset = ClipDataset(store, CLIPS)
    shared = dataset.shared_by(2)
    assert shared.shared is not None
    whole = dataset.cache.read_clip(2, np.arange(dataset.cache.info(2).num_frames))
    shared.shared.put(2, whole)
    shared.path = store / "is not here"
    pool: Workers[int, object] = Workers(Ask(shared), 1, lambda answer: answer, (shared.shared.descriptor,))
    assert list(pool.map([2])) == [whole.points.tobytes()]


class Ask:
    def __init__(self, dataset: ClipDataset) -> None:
        self.dataset = dataset

    def __call__(self, sequence: int) -> bytes:
        assert self.dataset.shared is not None
        found = self.dataset.shared.get(sequence)
        assert found is not None
        return found.points.tobytes()


def test_nothing_has_a_name_and_nothing_stays_open(clip: CachedClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_sequences.tempfile, "tempdir", str(tmp_path))
    before = set(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else None
    shared = SharedSequences(1, 2**20)
    shared.put(0, clip)
    assert list(tmp_path.iterdir()) == []
    del shared
    if before is not None:
        assert set(os.listdir("/proc/self/fd")) == before


def test_where_memory_has_no_files_a_file_has_no_name(clip: CachedClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_sequences.tempfile, "tempdir", str(tmp_path))
    monkeypatch.delattr(os, "memfd_create", raising=False)
    shared = SharedSequences(1, 2**20)
    shared.put(0, clip)
    assert_same(shared.get(0), clip)
    assert list(tmp_path.iterdir()) == []


def test_it_imports_no_torch() -> None:
    code = "import cross4d_train.shared_sequences, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
