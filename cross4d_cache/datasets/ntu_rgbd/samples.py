"""What the names of samples say, and which names there are.

A sample is called SsssCcccPpppRrrrAaaa: setup, camera, performer, replication, action. Protocols are those of the papers
(Shahroudy et al. 2016; Liu et al. 2019).
"""

import re
from dataclasses import dataclass
from pathlib import Path

from cross4d_cache.datasets.looking import look_at
from cross4d_cache.errors import DatasetError

_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
_RESEMBLES = re.compile(r"S\d+C\d+P\d+R\d+A\d+", re.IGNORECASE)

TRAINING_SUBJECTS = frozenset((1, 2, 4, 5, 8, 9, *range(13, 20), 25, 27, 28, 31, 34, 35, 38))
TRAINING_SUBJECTS_120 = TRAINING_SUBJECTS | frozenset(
    (45, 46, 47, 49, 50, *range(52, 60), 70, 74, 78, *range(80, 87), 89, *range(91, 96), 97, 98, 100, 103)
)

PERFORMERS: dict[int, tuple[int, ...]] = {
    1: (1, 2, 3, 4, 5, 6, 7, 8),
    2: (3, 7, 8, 9, 10, 11, 12, 13, 14),
    3: (1, 2, 7, 8, 15, 16, 17, 18, 19),
    4: (3, 7, 8, 20),
    5: (4, 10, 13, 15, 16, 17, 18, 21),
    6: (1, 7, 8, 15, 16, 17, 19, 22, 23, 24),
    7: (1, 7, 8, 15, 16, 17, 18, 19, 25, 26, 27, 28),
    8: (1, 7, 8, 15, 19, 25, 29, 30, 31, 32, 33, 34, 35, 36),
    9: (7, 8, 15, 16, 17, 19, 25),
    10: (7, 8, 13, 15, 16, 17, 18, 19, 21, 25),
    11: (1, 2, 7, 8, 15, 16, 17, 18, 19, 25, 27, 28, 38),
    12: (7, 8, 15, 16, 17, 18, 19, 25, 27, 28, 37),
    13: (7, 8, 15, 16, 17, 18, 19, 25, 27, 28, 37),
    14: (7, 8, 15, 17, 19, 25, 27, 37, 39),
    15: (7, 8, 15, 16, 17, 19, 25, 37),
    16: (7, 8, 19, 21, 25, 39, 40),
    17: (3, 7, 8, 9, 15, 16, 17, 20),
}
"""Who performed in each setup of NTU RGB+D 60: each all 60 actions, twice, before 3 cameras."""

NUM_SAMPLES, NUM_SAMPLES_120 = 56_880, 114_480
SPLITS = {"cross-subject": {"train": 40_320, "test": 16_560}, "cross-view": {"train": 37_920, "test": 18_960}}
SPLITS_120 = {"cross-subject-120": {"train": 63_360, "test": 51_120}, "cross-setup": {"train": 54_720, "test": 59_760}}
"""With the samples that lack skeletons. The paper counts without 532 of them: 63,026 and 50,922, 54,471 and 59,477."""


@dataclass(frozen=True)
class Sample:
    """A name, taken apart; numbers count from 1."""

    name: str
    setup: int
    camera: int
    performer: int
    replication: int
    action: int

    @classmethod
    def parse(cls, name: str) -> "Sample | None":
        """`None` for what is not the name of a sample of NTU RGB+D 60 or 120."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        sample = cls(name, *(int(group) for group in match.groups()))
        return sample if 1 <= sample.action <= 120 else None

    @property
    def only_in_120(self) -> bool:
        """Whether NTU RGB+D 60 does not have it."""
        return self.setup > 17 or self.action > 60

    def splits(self, *, with_120: bool) -> dict[str, str]:
        """Its side of each protocol; those of NTU RGB+D 120 only count `with_120`."""
        sides = {}
        if not self.only_in_120:
            sides["cross-subject"] = "train" if self.performer in TRAINING_SUBJECTS else "test"
            sides["cross-view"] = "train" if self.camera in (2, 3) else "test"
        if with_120:
            sides["cross-subject-120"] = "train" if self.performer in TRAINING_SUBJECTS_120 else "test"
            sides["cross-setup"] = "train" if self.setup % 2 == 0 else "test"
        return sides


def resembles_sample(name: str) -> bool:
    """Whether something was probably meant to be the name of a sample."""
    return _RESEMBLES.search(name) is not None


def read_sample_list(path: Path) -> list[str]:
    """The names of samples in an official list, which begins with lines of prose.

    Raises:
        DatasetError: there are none, or lines that only resemble names.
    """
    hint = "fetch the list again, or move it away"
    lines = [line.strip() for line in look_at(path, lambda: path.read_text(encoding="latin1"), hint).splitlines()]
    names = [line for line in lines if Sample.parse(line)]
    strange = [line for line in lines if resembles_sample(line) and not Sample.parse(line)]
    if strange or not names:
        raise DatasetError(
            f"{path}: " + (f"{strange[0][:60]!r} is no name of a sample" if strange else "it names no sample"),
            expected="a line such as S001C002P005R002A008 for each sample",
            hint=hint,
        )
    return names


def names_of_60() -> list[str]:
    """The names of all samples of NTU RGB+D 60, sorted."""
    return [
        f"S{setup:03}C{camera:03}P{performer:03}R{replication:03}A{action:03}"
        for setup, performers in PERFORMERS.items()
        for camera in (1, 2, 3)
        for performer in performers
        for replication in (1, 2)
        for action in range(1, 61)
    ]
