"""What every dataset reader promises, as a suite to inherit."""

import json
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from pydantic import ValidationError

from cross4d_cache.datasets.dataset import Dataset, DatasetOptions
from cross4d_cache.datasets.files import FileDataset
from cross4d_cache.errors import DatasetError
from cross4d_cache.testing.folders import folders_reversed
from cross4d_cache.testing.frame import check_frame
from cross4d_cache.testing.randomness import global_generators_untouched
from cross4d_cache.types import UNLABELLED

Opener = Callable[[], Dataset]
MOST_BYTES = 2_000_000
"""Of memory that a listing of a small dataset may take at a time."""


class DatasetContract:
    """Inherit it and override the fixture `opener`, which opens a small instance of the dataset, anew at each call.

        class TestScans(DatasetContract):
            @pytest.fixture
            def opener(self, tmp_path):
                write_some_scans(tmp_path)  # at least three sequences, on both sides of every protocol
                return lambda: Scans(tmp_path, Scans.Options())

    No suite can tell whether axes are those of OpenCV (x right, y down, z forward) and numbers are right: compare some points with ones
    that you computed by hand. Whether lengths are metres is guessed from `extent`.
    """

    extent: ClassVar[tuple[float, float]] = (0.2, 200.0)
    """Shortest and longest diagonal of the box that a sequence may fill, metres: bodies and rooms, in no other unit."""

    @pytest.fixture
    def opener(self) -> Opener:
        """To be overridden: how the dataset is opened."""
        raise NotImplementedError(f"{type(self).__name__} has to override the fixture `opener`: a function that opens the dataset")

    @pytest.fixture
    def dataset(self, opener: Opener) -> Dataset:
        """The dataset, opened."""
        return opener()

    def shares_subjects(self, protocol: str) -> bool:
        """Whether subjects may be on both sides of a protocol: across cameras or setups they are, in all others they must not be."""
        return "view" in protocol or "setup" in protocol

    def test_the_class_says_what_it_is(self, dataset: Dataset) -> None:
        """`name` is one word, `version` is given, protocols have different names, and `needs_root` is true or false."""
        assert re.fullmatch(r"[\w.-]+", dataset.name), f"`name` is one word, to be typed; found {dataset.name!r}"
        assert re.fullmatch(r".+", dataset.version), f"`version` is a text, not empty; found {dataset.version!r}"
        assert len(set(dataset.protocols)) == len(dataset.protocols), f"protocols have different names; found {dataset.protocols}"
        assert isinstance(dataset.needs_root, bool), f"`needs_root` is True or False; found {dataset.needs_root!r}"

    def test_every_option_has_a_default(self, dataset: Dataset) -> None:
        """`Options` subclasses `DatasetOptions`, and a user who passes no option gets a dataset."""
        options = type(dataset).Options
        assert issubclass(options, DatasetOptions), f"`Options` subclasses DatasetOptions; found {options}"
        assert not (missing := [name for name, field in options.model_fields.items() if field.is_required()]), f"without default: {missing}"

    def test_unknown_options_are_not_taken(self, dataset: Dataset) -> None:
        """A misspelt option is an error, not a default in silence."""
        try:
            type(dataset).Options.model_validate({"no_such_option": "1"})
        except ValidationError:
            return
        raise AssertionError("`Options` refuses what it does not know; it took no_such_option=1")

    def test_what_is_used_is_recorded(self, dataset: Dataset) -> None:
        """Options are plain JSON, say unit, axes, stride and rate of files, and list the same sequences once they were read back."""
        record = json.loads(json.dumps(dataset.options.model_dump(mode="json")))
        if isinstance(dataset, FileDataset):
            missing = {"metres_per_unit", "axes", "frame_stride", "frame_rate"} - set(record)
            assert not missing, f"options of files subclass FileOptions; missing: {sorted(missing)}"
        again = type(dataset)(dataset.root, type(dataset).Options.model_validate(record))
        assert list(again.sequences()) == list(dataset.sequences()), "options that were recorded and read back list other sequences"

    def test_listing_is_the_same_every_time(self, opener: Opener) -> None:
        """Opened again, asked twice, after reading, and in another process, where no suite looks: a set has another order there."""
        dataset, other = opener(), opener()
        first = list(dataset.sequences())
        assert list(other.sequences()) == first, "two openings of the same data list other sequences, or in another order"
        assert other.fingerprint() == dataset.fingerprint(), "two openings of the same data have different fingerprints"
        dataset.read(first[0])
        assert list(dataset.sequences()) == first, "the listing changed after a sequence was read"
        assert list(dataset.listing.sequences) == first, "`listing` has other sequences than `sequences()`"

    def test_listing_does_not_follow_the_file_system(self, opener: Opener) -> None:
        """Folders list their files in any order; a dataset sorts them."""
        with folders_reversed():
            found, points = list(opener().sequences()), opener().read(opener().sequences()[0]).points
        dataset = opener()
        assert found == list(dataset.sequences()), "where a folder lists its files in another order, the dataset lists other sequences"
        same = np.array_equal(points, dataset.read(dataset.sequences()[0]).points)
        assert same, "where a folder lists its files in another order, a sequence has other points"

    def test_listing_reads_no_points(self, opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
        """It looks at names, headers and sizes. The memory it takes says something only if the example has some megabytes of points."""
        opener().sequences()  # imports and caches
        dataset = opener()

        def refuse(*_: object) -> None:
            raise AssertionError("the listing reads no points; it called `frames`, `read` or `read_frames`")

        for name in ("frames", "read", "read_frames"):
            monkeypatch.setattr(dataset, name, refuse, raising=False)
        tracemalloc.start()
        try:
            dataset.sequences()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < MOST_BYTES, f"the listing reads no points; it took {peak / 1e6:.1f} MB at once"

    def test_ids_are_unique_and_safe_as_names(self, dataset: Dataset) -> None:
        """Letters, digits, `_`, `-` and `.` alone: ids name files, and seed the choice of points."""
        ids = [info.id for info in dataset.sequences()]
        assert ids, "the dataset lists no sequence"
        assert len(set(ids)) == len(ids), f"ids are unique; found twice: {sorted({name for name in ids if ids.count(name) > 1})}"
        unsafe = [name for name in ids if not name.replace("_", "").replace("-", "").replace(".", "").isalnum()]
        assert not unsafe, f"ids consist of letters, digits, `_`, `-` and `.`; found {unsafe}"

    def test_labels_index_the_names(self, dataset: Dataset) -> None:
        """`action` counts in `action_names`, which are all different."""
        names = dataset.action_names
        unknown = {info.action for info in dataset.sequences()} - {UNLABELLED} - set(range(len(names)))
        assert not unknown, f"actions index the {len(names)} action_names; found {sorted(unknown)}"
        assert len(set(names)) == len(names), f"action_names are all different; found {names}"

    def test_splits_name_known_protocols_and_share_no_subject(self, dataset: Dataset) -> None:
        """Sides are `train` and `test`; no known subject is on both, unless `shares_subjects` says so of the protocol."""
        for info in dataset.sequences():
            unknown = set(info.splits) - set(dataset.protocols)
            assert not unknown, f"{info.id}: splits name the protocols {dataset.protocols}; found {sorted(unknown)}"
            assert set(info.splits.values()) <= {"train", "test"}, f"{info.id}: sides are train and test; found {info.splits}"
        for protocol in dataset.protocols:
            sides: dict[str, set[int]] = {"train": set(), "test": set()}
            for info in dataset.sequences():
                if protocol in info.splits:
                    sides[info.splits[protocol]].add(info.subject)
            both = (sides["train"] & sides["test"]) - {UNLABELLED}
            assert self.shares_subjects(protocol) or not both, f"{protocol}: subjects {sorted(both)} are on both sides"

    def test_both_sides_of_every_protocol_have_sequences(self, dataset: Dataset) -> None:
        """So that the example says something of the splits."""
        for protocol in dataset.protocols:
            sides = {info.splits.get(protocol) for info in dataset.sequences()}
            assert sides >= {"train", "test"}, f"{protocol}: the example has sequences on both sides; found {sides}"

    def test_reading_agrees_with_the_listing(self, dataset: Dataset) -> None:
        """As many frames as were listed, each of them with points; finite float32."""
        for info in list(dataset.sequences())[::7]:
            sequence = dataset.read(info)
            assert sequence.info == info, f"{info.id}: read as {sequence.info}"
            assert sequence.num_frames == info.num_frames, f"{info.id}: {info.num_frames} frames listed, {sequence.num_frames} read"
            assert sequence.points.dtype == np.float32, f"{info.id}: points are float32; found {sequence.points.dtype}"
            assert np.isfinite(sequence.points).all(), f"{info.id}: coordinates that are not finite"
            assert (np.diff(sequence.point_offsets) > 0).all(), f"{info.id}: a frame without points"

    def test_reading_is_the_same_in_any_order(self, opener: Opener) -> None:
        """What is random about a sequence comes from the options and the sequence, not from what was read before."""
        forward, backward = opener(), opener()
        chosen = list(forward.sequences())[:3]
        first = [forward.read(info) for info in chosen]
        second = [backward.read(info) for info in reversed(chosen)][::-1]
        for before, after in zip(first, second, strict=True):
            same = np.array_equal(before.points, after.points) and np.array_equal(before.point_offsets, after.point_offsets)
            assert same, f"{before.info.id}: read in another order it has other points"

    def test_nothing_draws_from_global_generators(self, opener: Opener) -> None:
        """Opening, listing and reading leave the generators of numpy and torch as they are."""
        with global_generators_untouched("a dataset"):
            opener().read(opener().sequences()[0])

    def test_points_are_metres(self, dataset: Dataset) -> None:
        """As far as their extent tells."""
        least, most = self.extent
        for info in list(dataset.sequences())[::9]:
            diagonal = float(np.linalg.norm(np.ptp(dataset.read(info).points, axis=0)))
            assert least < diagonal < most, f"{info.id}: points are metres, their box {least} to {most} across; found {diagonal:.4g}"

    def test_frames_are_those_of_reading_one_by_one(self, dataset: Dataset) -> None:
        """`frames` and `read` give the same points and labels, and a frame stays as it is when the next one comes."""
        frames = list(dataset.frames(info := dataset.sequences()[0]))
        assert len(frames) == info.num_frames, f"{info.id}: {info.num_frames} frames listed, {len(frames)} came"
        for number, (frame, alone) in enumerate(zip(frames, dataset.frames(info), strict=True)):
            check_frame(f"{info.id}, frame {number}", frame)
            same = np.array_equal(frame.points, alone.points)
            assert same, f"{info.id}, frame {number} changes when the next ones come: its array was used again"
        for number, (frame, whole) in enumerate(zip(frames, dataset.read(info).frames(), strict=True)):
            same = np.array_equal(frame.points, whole.points) and frame.action == whole.action
            assert same, f"{info.id}, frame {number}: `frames` and `read` differ"

    def test_part_labels_and_frame_actions_index_the_names(self, dataset: Dataset) -> None:
        """`part_labels` count in `part_names`, `frame_actions` in `action_names`."""
        sequence = dataset.read(dataset.sequences()[0])
        if sequence.part_labels is not None:
            names, most = dataset.part_names, int(sequence.part_labels.max())
            assert most < len(names), f"part_labels index the {len(names)} part_names; found {most}"
            assert len(set(names)) == len(names), f"part_names are all different; found {names}"
        if sequence.frame_actions is not None:
            most = int(sequence.frame_actions.max())
            assert most < len(dataset.action_names), f"frame_actions index the {len(dataset.action_names)} action_names; found {most}"

    def test_units_axes_and_stride_are_options_of_files(self, opener: Opener) -> None:
        """Of files: with twice the unit, a mirrored first axis and every second frame, points and lengths follow."""
        plain = opener()
        if not isinstance(plain, FileDataset):
            pytest.skip("it reads no files")
        first, *others = plain.options.axes.split(",")
        mirrored = ",".join([first.removeprefix("-") if first.startswith("-") else f"-{first}", *others])
        change = {"metres_per_unit": 2 * plain.options.metres_per_unit, "axes": mirrored, "frame_stride": 2}
        other = type(plain)(plain.root, plain.options.model_copy(update=change))
        for before, after in zip(plain.sequences(), other.sequences(), strict=True):
            assert after.num_frames == (before.num_frames + 1) // 2, f"{before.id}: frame_stride=2 lists {after.num_frames} frames"
            whole, changed = plain.read(before), other.read(after)
            for number in range(after.num_frames):
                expected = whole.frame(2 * number) * np.array([-2, 2, 2], np.float32)
                np.testing.assert_allclose(changed.frame(number), expected, rtol=1e-6, err_msg=f"{before.id}: options {change}")

    def test_an_empty_folder_is_refused(self, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> None:
        """A dataset that lives in a folder says so when there is nothing of it in one."""
        if not dataset.needs_root:
            assert dataset.root is None, f"`needs_root` is False, and the dataset was opened at {dataset.root}"
            return
        try:
            found = type(dataset)(tmp_path_factory.mktemp("empty"), dataset.options).sequences()
        except DatasetError:
            return
        raise AssertionError(f"a folder without sequences is a DatasetError; {len(found)} were listed")

    def test_the_folder_one_stands_in_is_the_same(self, opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
        """A dataset opened as `.` is the same; some have more files in the folder above, which `.` does not name."""
        dataset = opener()
        if dataset.root is None:
            pytest.skip("it reads no files")
        monkeypatch.chdir(dataset.root)
        here = type(dataset)(Path(), dataset.options)
        assert list(here.sequences()) == list(dataset.sequences()), "opened as `.`, the folder lists other sequences"
        info = dataset.sequences()[0]
        assert np.array_equal(here.read(info).points, dataset.read(info).points), "opened as `.`, the folder has other points"
