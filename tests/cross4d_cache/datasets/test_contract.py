"""What every dataset reader must do; a new one is done when it stands in `dataset` and passes."""

import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.datasets import DATASETS, open_dataset
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.errors import DatasetError, SettingsError
from cross4d_cache.types import UNLABELLED

Opener = Callable[[], Dataset]


@pytest.fixture(params=sorted(DATASETS))
def opener(request: pytest.FixtureRequest, msr_folder: Path) -> Opener:
    """Opens a small instance of the dataset, anew at each call."""
    match request.param:
        case "synthetic":
            return lambda: open_dataset("synthetic", options={"num_humans": "2", "num_animals": "2", "max_frames": "24"})
        case "msr_action3d":
            return lambda: open_dataset("msr_action3d", msr_folder)
        case name:
            pytest.fail(f"dataset {name} has no example here")


@pytest.fixture
def dataset(opener: Opener) -> Dataset:
    return opener()


def test_listing_is_the_same_every_time(opener: Opener) -> None:
    assert list(opener().sequences()) == list(opener().sequences())
    assert opener().fingerprint() == opener().fingerprint()


def test_ids_are_unique_and_safe_as_names(dataset: Dataset) -> None:
    ids = [info.id for info in dataset.sequences()]
    assert len(set(ids)) == len(ids) > 0
    assert all(name.replace("_", "").replace("-", "").isalnum() for name in ids)


def test_labels_index_the_names(dataset: Dataset) -> None:
    actions = {info.action for info in dataset.sequences()} - {UNLABELLED}
    assert actions <= set(range(len(dataset.action_names)))
    assert len(set(dataset.action_names)) == len(dataset.action_names)


def test_splits_name_known_protocols_and_share_no_subject(dataset: Dataset) -> None:
    assert dataset.protocols
    for info in dataset.sequences():
        assert set(info.splits) <= set(dataset.protocols)
        assert set(info.splits.values()) <= {"train", "test"}
    for protocol in dataset.protocols:
        sides: dict[str, set[int]] = {"train": set(), "test": set()}
        for info in dataset.sequences():
            if protocol in info.splits:
                sides[info.splits[protocol]].add(info.subject)
        assert sides["train"], protocol
        assert sides["test"], protocol
        assert not sides["train"] & sides["test"]


def test_reading_agrees_with_the_listing(dataset: Dataset) -> None:
    for info in dataset.sequences()[::7]:
        sequence = dataset.read(info)
        assert sequence.info == info
        assert sequence.num_frames == info.num_frames
        assert sequence.points.dtype == np.float32
        assert np.isfinite(sequence.points).all()
        assert (np.diff(sequence.point_offsets) > 0).all()


def test_reading_is_the_same_in_any_order(opener: Opener) -> None:
    forward, backward = opener(), opener()
    chosen = forward.sequences()[:3]
    first = [forward.read(info) for info in chosen]
    second = [backward.read(info) for info in reversed(chosen)][::-1]
    for before, after in zip(first, second, strict=True):
        np.testing.assert_array_equal(before.points, after.points)
        np.testing.assert_array_equal(before.point_offsets, after.point_offsets)


def test_points_are_metres_in_front_of_a_sensor_with_y_down(dataset: Dataset) -> None:
    """All readers so far have one sensor at the origin; a body is metres, not millimetres, away."""
    for info in dataset.sequences()[::9]:
        points = dataset.read(info).points
        assert (points[:, 2] > 0.2).all()
        assert 0.2 < np.linalg.norm(np.ptp(points, axis=0)) < 20


def test_part_labels_index_the_part_names(dataset: Dataset) -> None:
    sequence = dataset.read(dataset.sequences()[0])
    assert (sequence.part_labels is not None) == bool(dataset.part_names)
    if sequence.part_labels is not None:
        counts = Counter(sequence.part_labels.tolist())
        assert max(counts) < len(dataset.part_names)


def test_listing_reads_no_points(opener: Opener) -> None:
    opener().sequences()  # imports and caches
    tracemalloc.start()
    try:
        opener().sequences()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_unknown_options_are_refused(opener: Opener) -> None:
    dataset = opener()
    with pytest.raises(SettingsError, match="no_such_option"):
        open_dataset(dataset.name, dataset.root, {"no_such_option": "1"})


def test_a_dataset_that_lives_in_a_folder_says_when_it_is_missing(opener: Opener, tmp_path: Path) -> None:
    dataset = opener()
    if not dataset.needs_root:
        assert dataset.root is None
        return
    with pytest.raises(DatasetError, match="--data"):
        open_dataset(dataset.name, None)
    with pytest.raises(DatasetError, match="does not exist"):
        open_dataset(dataset.name, tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="holds no"):
        open_dataset(dataset.name, tmp_path).sequences()
