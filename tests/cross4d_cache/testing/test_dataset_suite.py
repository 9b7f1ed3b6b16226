"""A dataset that keeps its promises passes the suite; one that breaks a promise falls by the check of it."""

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ConfigDict, Field

from cross4d_cache.datasets.dataset import Dataset, DatasetOptions
from cross4d_cache.datasets.files import Axes, FileDataset, FileOptions, Release
from cross4d_cache.errors import DatasetError
from cross4d_cache.testing import DatasetContract
from cross4d_cache.types import Frame, SequenceInfo
from tests.falling import checks, falling, fixture

pytest_plugins = ("pytester",)


class DriftOptions(DatasetOptions):
    num_sequences: int = 4


class Drift(Dataset):
    """Blobs that drift, generated."""

    name, version, protocols, needs_root = "drift", "1", ("cross-subject",), False
    Options: type[DatasetOptions] = DriftOptions
    options: Any

    @property
    def action_names(self) -> tuple[str, ...]:
        return ("left", "right")

    @property
    def part_names(self) -> tuple[str, ...]:
        return ("body",)

    def info(self, number: int) -> SequenceInfo:
        side = "test" if number % 2 else "train"
        return SequenceInfo(id=f"s{number}", num_frames=3, action=number % 2, subject=number, splits={"cross-subject": side})

    def sequences(self) -> list[SequenceInfo]:
        return [self.info(number) for number in range(self.options.num_sequences)]

    def generator(self, info: SequenceInfo) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(info.id.encode()))

    def frames(self, info: SequenceInfo) -> Iterator[Frame]:
        rng = self.generator(info)
        for number in range(info.num_frames):
            points = rng.normal(loc=(0.1 * number, 0, 3), size=(50, 3))
            yield Frame(points=points.astype(np.float32), part_labels=np.zeros(50, np.uint16), surface_ids=np.arange(50, dtype=np.uint32))


class Clips(FileDataset):
    """`.npy` files, frame x point x 3; the first half of them, by name, is for training."""

    name, version, protocols, holds = "clips", "1", ("halves",), "files named NAME.npy"
    release = Release(title="clip")
    action_names = ()

    def scan(self) -> Iterator[SequenceInfo | DatasetError]:
        paths = sorted(self.root.glob("*.npy"))
        for number, path in enumerate(paths):
            side = "train" if 2 * number < len(paths) else "test"
            yield SequenceInfo(id=path.stem, num_frames=len(np.load(path, mmap_mode="r")), splits={"halves": side})

    def read_frames(self, info: SequenceInfo, numbers: range) -> Iterator[Frame]:
        values = np.load(self.root / f"{info.id}.npy")
        for number in numbers:
            yield Frame(points=values[number])


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for number in range(4):
        np.save(tmp_path / f"clip{number}.npy", np.random.default_rng(number).normal(size=(5, 20, 3)).astype(np.float32))
    return tmp_path


class TestDrift(DatasetContract):
    @pytest.fixture
    def opener(self) -> Callable[[], Dataset]:
        return lambda: Drift(None, DriftOptions())


class TestClips(DatasetContract):
    @pytest.fixture
    def opener(self, clips: Path) -> Callable[[], Dataset]:
        return lambda: Clips(clips, FileOptions())


def generated(options: Callable[[], DatasetOptions] = DriftOptions, kind: type[Dataset] = Drift, **members: Any) -> dict[str, Any]:
    """The test class's fixture for a `Drift` with other members, opened with these options."""
    changed = type("Drift", (kind,), members)
    return fixture("opener", lambda: lambda: changed(None, options()))


def of_files(kind: type[Dataset], **members: Any) -> dict[str, Any]:
    changed = type("Clips", (kind,), members)

    def opener(self: object, clips: Path) -> Callable[[], Dataset]:
        return lambda: changed(clips, changed.Options())

    return {"opener": pytest.fixture(opener)}


class Required(DriftOptions):
    size: float


class Loose(DriftOptions):
    model_config = ConfigDict(extra="ignore")


class Hidden(DatasetOptions):
    num_sequences: int = Field(default=4, exclude=True)


class Unsaid(FileOptions):
    axes: Axes = Field(default="x,y,z", exclude=True)


def spoiled(change: Callable[[SequenceInfo], dict[str, Any]]) -> Callable[[Drift], list[SequenceInfo]]:
    """A listing whose infos are changed."""
    return lambda self: [info.model_copy(update=change(info)) for info in Drift.sequences(self)]


def shrinking(self: Drift) -> list[SequenceInfo]:
    type(self).openings = getattr(type(self), "openings", 0) + 1
    return Drift.sequences(self)[: 4 - type(self).openings % 2]


def forgetting(self: Drift) -> list[SequenceInfo]:
    return Drift.sequences(self)[: 3 if vars(self).get("was_read") else 4]


def remembering(self: Drift, info: SequenceInfo) -> Iterator[Frame]:
    vars(self)["was_read"] = True
    return Drift.frames(self, info)


def reading(self: Drift) -> list[SequenceInfo]:
    return [info for info in Drift.sequences(self) if self.read(info).num_frames]


def loading(self: Drift) -> list[SequenceInfo]:
    assert np.zeros(1_000_000).sum() == 0
    return Drift.sequences(self)


def doubled(self: Drift, info: SequenceInfo) -> Any:
    sequence = Dataset.read(self, info)
    object.__setattr__(sequence, "points", sequence.points.astype(np.float64))
    return sequence


def streaming(self: Drift, info: SequenceInfo) -> np.random.Generator:
    return vars(self).setdefault("stream", np.random.default_rng(0))


def shaken(self: Drift, info: SequenceInfo) -> Iterator[Frame]:
    for frame in Drift.frames(self, info):
        yield Frame(points=frame.points + np.float32(1e-3 * np.random.rand()))


def millimetres(self: Drift, info: SequenceInfo) -> Iterator[Frame]:
    return (Frame(points=frame.points * np.float32(1000)) for frame in Drift.frames(self, info))


def reusing(self: Drift, info: SequenceInfo) -> Iterator[Frame]:
    buffer = np.empty((50, 3), np.float32)
    for frame in Drift.frames(self, info):
        buffer[:] = frame.points
        yield Frame(points=buffer)


def uneven(self: Drift, info: SequenceInfo) -> Iterator[Frame]:
    for frame in Drift.frames(self, info):
        object.__setattr__(frame, "surface_ids", np.arange(49, dtype=np.uint32))
        yield frame


def seven(self: Drift, info: SequenceInfo) -> Iterator[Frame]:
    return (Frame(points=frame.points, part_labels=np.full(50, 7, np.uint16)) for frame in Drift.frames(self, info))


def unconverted(self: Clips, info: SequenceInfo) -> Iterator[Frame]:
    return self.read_frames(info, range(info.num_frames))


def unsorted(self: Clips) -> Iterator[SequenceInfo]:
    for path in self.root.glob("*.npy"):
        yield SequenceInfo(id=path.stem, num_frames=5, splits={"halves": "train"})


def by_listing(self: Clips, info: SequenceInfo, numbers: range) -> Iterator[Frame]:
    values = np.load(self.root / os.listdir(self.root)[int(info.id.removeprefix("clip"))])
    return (Frame(points=values[number]) for number in numbers)


class Unscanned(Dataset):
    """Reads whatever the folder has, and finds nothing wrong with nothing."""

    name, version, protocols, needs_root, action_names = "unscanned", "1", (), True, ()

    def sequences(self) -> list[SequenceInfo]:
        assert self.root is not None
        return [SequenceInfo(id=f"{self.root.name}-{path.stem}", num_frames=5) for path in sorted(self.root.glob("*.npy"))]

    def frames(self, info: SequenceInfo) -> Iterator[Frame]:
        assert self.root is not None
        return (Frame(points=points) for points in np.load(self.root / f"{info.id.rpartition('-')[2]}.npy"))


BROKEN = {
    "TwoWords": ("the_class_says_what_it_is", "one word", generated(name="my drift")),
    "NoVersion": ("the_class_says_what_it_is", "not empty", generated(version="")),
    "SameProtocols": ("the_class_says_what_it_is", "different names", generated(protocols=("a", "a"))),
    "NeedsRoot": ("the_class_says_what_it_is", "True or False", generated(needs_root=None)),
    "OtherOptions": ("every_option_has_a_default", "subclasses DatasetOptions", generated(Options=Release)),
    "RequiredOption": ("every_option_has_a_default", "without default: ['size']", generated(lambda: Required(size=2), Options=Required)),
    "Loose": ("unknown_options_are_not_taken", "no_such_option", generated(Loose, Options=Loose)),
    "Hidden": ("what_is_used_is_recorded", "read back", generated(lambda: Hidden(num_sequences=3), Options=Hidden)),
    "OtherFileOptions": ("what_is_used_is_recorded", "axes", of_files(Clips, Options=Unsaid)),
    "Shrinking": ("listing_is_the_same_every_time", "two openings", generated(sequences=shrinking)),
    "Forgetting": ("listing_is_the_same_every_time", "after a sequence was read", generated(sequences=forgetting, frames=remembering)),
    "Unsorted": ("listing_does_not_follow_the_file_system", "lists other sequences", of_files(Clips, scan=unsorted)),
    "ByListing": ("listing_does_not_follow_the_file_system", "has other points", of_files(Clips, read_frames=by_listing)),
    "Reading": ("listing_reads_no_points", "it called", generated(sequences=reading)),
    "Loading": ("listing_reads_no_points", "MB at once", generated(sequences=loading)),
    "NoSequence": ("ids_are_unique_and_safe_as_names", "no sequence", generated(sequences=lambda self: [])),
    "Twice": ("ids_are_unique_and_safe_as_names", "['s']", generated(sequences=spoiled(lambda info: {"id": "s"}))),
    "Slash": ("ids_are_unique_and_safe_as_names", "a/s0", generated(sequences=spoiled(lambda info: {"id": f"a/{info.id}"}))),
    "UnknownAction": ("labels_index_the_names", "found [7]", generated(sequences=spoiled(lambda info: {"action": 7}))),
    "SameActions": ("labels_index_the_names", "all different", generated(action_names=("left", "left"))),
    "UnknownProtocol": (
        "splits_name_known_protocols_and_share_no_subject",
        "['other']",
        generated(sequences=spoiled(lambda info: {"splits": {"other": "train"}})),
    ),
    "Validation": (
        "splits_name_known_protocols_and_share_no_subject",
        "train and test",
        generated(sequences=spoiled(lambda info: {"splits": {"cross-subject": "val"}})),
    ),
    "SharedSubject": (
        "splits_name_known_protocols_and_share_no_subject",
        "subjects [1] are on both sides",
        generated(sequences=spoiled(lambda info: {"subject": 1})),
    ),
    "OneSide": (
        "both_sides_of_every_protocol_have_sequences",
        "cross-subject",
        generated(sequences=spoiled(lambda info: {"splits": {"cross-subject": "train"}})),
    ),
    "Double": ("reading_agrees_with_the_listing", "float64", generated(read=doubled)),
    "Stream": ("reading_is_the_same_in_any_order", "in another order", generated(generator=streaming)),
    "Shaken": ("nothing_draws_from_global_generators", "numpy", generated(frames=shaken)),
    "Millimetres": ("points_are_metres", "across; found", generated(frames=millimetres)),
    "Reused": ("frames_are_those_of_reading_one_by_one", "used again", generated(frames=reusing)),
    "Uneven": ("frames_are_those_of_reading_one_by_one", "49 surface_ids of 50", generated(frames=uneven)),
    "UnknownPart": ("part_labels_and_frame_actions_index_the_names", "found 7", generated(frames=seven)),
    "Unconverted": ("units_axes_and_stride_are_options_of_files", "options", of_files(Clips, frames=unconverted)),
    "NothingWrong": ("an_empty_folder_is_refused", "0 were listed", of_files(Unscanned)),
    "NameOfTheFolder": ("the_folder_one_stands_in_is_the_same", "lists other sequences", of_files(Unscanned)),
}
globals().update(falling(DatasetContract, {name: (f"test_{check}", says, opener) for name, (check, says, opener) in BROKEN.items()}))


def test_a_broken_dataset_falls_by_every_check() -> None:
    assert {f"test_{check}" for check, _, _ in BROKEN.values()} == checks(DatasetContract)


def test_who_says_nothing_is_told_what_to_override(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("from cross4d_cache.testing import DatasetContract\nclass TestMine(DatasetContract): pass")
    ended = pytester.runpytest("-q", "-k", "metres")
    ended.assert_outcomes(errors=1)
    ended.stdout.fnmatch_lines(["*TestMine has to override the fixture `opener`: a function that opens the dataset"])
