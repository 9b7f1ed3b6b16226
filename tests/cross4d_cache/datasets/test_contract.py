"""What every dataset reader must do; a new one is done when it stands in `dataset` and passes."""

import errno
import json
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache import patience
from cross4d_cache.datasets import DATASETS, open_dataset
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.datasets.files import FileDataset
from cross4d_cache.errors import DatasetError, SettingsError
from cross4d_cache.types import UNLABELLED
from tests.cross4d_cache.datasets.examples.all_examples import EXAMPLES
from tests.failing import below, failing

Opener = Callable[[], Dataset]


FORMS = {example.name: example for example in EXAMPLES}


@pytest.fixture(scope="module", params=["synthetic", *FORMS])
def opener(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opener:
    """Opens a small instance of the dataset, anew at each call."""
    if request.param == "synthetic":
        return lambda: open_dataset("synthetic", options={"num_humans": "2", "num_animals": "2", "max_frames": "24"})
    example = FORMS[request.param]
    folder = tmp_path_factory.mktemp(example.dataset)
    example.write(folder)
    return lambda: open_dataset(example.dataset, folder, dict(example.options))


def test_every_dataset_has_an_example() -> None:
    assert {example.dataset for example in EXAMPLES} | {"synthetic"} == set(DATASETS.built_in)
    assert len(FORMS) == len(EXAMPLES)


@pytest.fixture
def dataset(opener: Opener) -> Dataset:
    return opener()


def test_listing_is_the_same_every_time(opener: Opener) -> None:
    assert list(opener().sequences()) == list(opener().sequences())
    assert opener().fingerprint() == opener().fingerprint()


def test_ids_are_unique_and_safe_as_names(dataset: Dataset) -> None:
    ids = [info.id for info in dataset.sequences()]
    assert len(set(ids)) == len(ids) > 0
    assert all(name.replace("_", "").replace("-", "").replace(".", "").isalnum() for name in ids)


def test_labels_index_the_names(dataset: Dataset) -> None:
    actions = {info.action for info in dataset.sequences()} - {UNLABELLED}
    assert actions <= set(range(len(dataset.action_names)))
    assert len(set(dataset.action_names)) == len(dataset.action_names)


def test_splits_name_known_protocols_and_share_no_subject(dataset: Dataset, request: pytest.FixtureRequest) -> None:
    """Protocols across cameras or setups share subjects; all others are across subjects or identities, where these are known."""
    assert dataset.protocols
    for info in dataset.sequences():
        assert set(info.splits) <= set(dataset.protocols)
        assert set(info.splits.values()) <= {"train", "test"}
    for protocol in dataset.protocols:
        sides: dict[str, set[int]] = {"train": set(), "test": set()}
        for info in dataset.sequences():
            if protocol in info.splits:
                sides[info.splits[protocol]].add(info.subject)
        if "view" not in protocol and "setup" not in protocol:
            assert not (sides["train"] & sides["test"]) - {UNLABELLED}


def test_both_sides_of_every_protocol_have_sequences(dataset: Dataset, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["opener"]
    if name in FORMS and not FORMS[name].splits:
        pytest.skip(f"{name} has no splits")
    for protocol in dataset.protocols:
        assert {info.splits.get(protocol) for info in dataset.sequences()} >= {"train", "test"}, protocol


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


def test_errors_that_pass_are_waited_out(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = opener()
    if dataset.root is None:
        pytest.skip("it reads no files")
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.0)
    info = dataset.sequences()[0]
    expected = dataset.read(info)
    with failing(errno.ESTALE, below(dataset.root, "open", 1)) as failed:
        again = opener()
        np.testing.assert_array_equal(again.read(again.sequences()[0]).points, expected.points)
    assert failed


def test_points_are_metres(dataset: Dataset) -> None:
    """Bodies and rooms are metres, not millimetres, across."""
    for info in dataset.sequences()[::9]:
        points = dataset.read(info).points
        assert 0.2 < np.linalg.norm(np.ptp(points, axis=0)) < 200


def test_frames_are_those_of_reading_one_by_one(dataset: Dataset) -> None:
    info = dataset.sequences()[0]
    sequence = dataset.read(info)
    for number, frame in enumerate(dataset.frames(info)):
        np.testing.assert_array_equal(frame.points, sequence.frame(number))
        assert frame.action == (UNLABELLED if sequence.frame_actions is None else sequence.frame_actions[number])
    assert number == info.num_frames - 1


def test_units_axes_and_stride_are_options_of_files(opener: Opener) -> None:
    """Twice the unit, mirrored first axis, every second frame."""
    plain = opener()
    if not isinstance(plain, FileDataset):
        pytest.skip("generated")
    options = plain.options
    first, second, third = options.axes.split(",")
    mirrored = first.removeprefix("-") if first.startswith("-") else f"-{first}"
    other = type(plain)(
        plain.root,
        options.model_copy(
            update={"metres_per_unit": 2 * options.metres_per_unit, "axes": f"{mirrored},{second},{third}", "frame_stride": 2}
        ),
    )
    for before, after in zip(plain.sequences(), other.sequences(), strict=True):
        assert after.num_frames == (before.num_frames + 1) // 2
        whole, changed = plain.read(before), other.read(after)
        for number in range(after.num_frames):
            expected = whole.frame(2 * number) * np.array([-2, 2, 2], np.float32)
            np.testing.assert_allclose(changed.frame(number), expected, rtol=1e-6)


def test_what_is_used_is_recorded(opener: Opener) -> None:
    """The manifest records the options; they must be plain JSON and say unit, axes and rate."""
    dataset = opener()
    record = json.loads(json.dumps(dataset.options.model_dump(mode="json")))
    if isinstance(dataset, FileDataset):
        assert {"metres_per_unit", "axes", "frame_stride", "frame_rate"} <= set(record)
        assert bool(dataset.release.page) == bool(dataset.release.files) == (dataset.name != "folder")
    assert type(dataset)(dataset.root, type(dataset).Options.model_validate(record)).sequences() == dataset.sequences()


def test_part_labels_and_frame_actions_index_the_names(dataset: Dataset) -> None:
    sequence = dataset.read(dataset.sequences()[0])
    if sequence.part_labels is not None:
        counts = Counter(sequence.part_labels.tolist())
        assert max(counts) < len(dataset.part_names)
        assert len(set(dataset.part_names)) == len(dataset.part_names)
    if sequence.frame_actions is not None:
        assert sequence.frame_actions.max() < len(dataset.action_names)


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
    with pytest.raises(DatasetError, match=r"`dataset\.root`"):
        open_dataset(dataset.name, None)
    with pytest.raises(DatasetError, match="does not exist"):
        open_dataset(dataset.name, tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="holds no"):
        open_dataset(dataset.name, tmp_path).sequences()


def test_the_folder_one_stands_in_is_the_same(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some datasets have more files in the folder above, which `.` does not name."""
    dataset = opener()
    if dataset.root is None:
        pytest.skip("generated")
    monkeypatch.chdir(dataset.root)
    here = type(dataset)(Path(), dataset.options)
    assert here.sequences() == dataset.sequences()
    info = dataset.sequences()[0]
    np.testing.assert_array_equal(here.read(info).points, dataset.read(info).points)
