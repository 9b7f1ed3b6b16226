"""Datasets that lie in a folder: what their readers share.

A reader says what is there (`scan`) and yields frames in the units and axes of its files (`read_frames`); this base turns them into
metres and OpenCV axes, leaves frames out, and collects what is damaged or missing.
"""

import os
import re
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float32
from pydantic import AfterValidator, Field

from cross4d_cache.catalogue import DATASETS
from cross4d_cache.datasets.dataset import Damage, Dataset, DatasetOptions, Listing, Role
from cross4d_cache.datasets.looking import unreadable
from cross4d_cache.datasets.volume import Box, Range, Volume
from cross4d_cache.errors import DatasetError
from cross4d_cache.record import added
from cross4d_cache.types import Frame, SequenceInfo


def _axes(text: str) -> str:
    if not re.fullmatch(r"-?[xyz](,-?[xyz]){2}", text) or {letter for letter in text if letter in "xyz"} != set("xyz"):
        raise ValueError(f"{text!r} does not name the file's axes that point right, down and forward, such as x,-z,y for z up")
    return text


Axes = Annotated[str, AfterValidator(_axes)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
FrameRate = Annotated[Positive | None, Role.DESCRIBES]


class FileOptions(DatasetOptions):
    """Options of every reader of files; each reader has its own defaults.

    `metres_per_unit` is the length of the files' unit. `axes` names the files' axes that point right, down and forward: `x,-z,y` for
    files in which z points up and y forward. `frame_stride` keeps every so many frames. `frame_rate` is that of the files, frames a
    second (before `frame_stride`); it changes no number and is recorded with the store. `drop_zeros` leaves out points at 0, 0, 0 of the
    files, as sensors write them for rays without an echo; `range` and `box` keep a part of space, see `Volume`.
    """

    metres_per_unit: Positive = 1.0
    axes: Axes = "x,y,z"
    frame_stride: Annotated[int, Field(ge=1)] = 1
    frame_rate: FrameRate = None
    drop_zeros: bool = added(False)
    range: Range | None = added(None)
    box: Box | None = added(None)


@dataclass(frozen=True)
class Release:
    """What a dataset is called by its owners, its official page, and what to fetch there; both empty for the user's own files."""

    title: str
    page: str = ""
    files: str = ""

    @classmethod
    def of(cls, name: str, *, files: str) -> "Release":
        """The release of a dataset of the catalogue, and what to fetch there."""
        return cls(title=DATASETS[name].title, page=DATASETS[name].page, files=files)


@dataclass(frozen=True)
class Expected:
    """What a complete copy holds: sequences in all, per protocol and side, and their ids, as far as these are known."""

    num_sequences: int | None = None
    splits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    ids: Collection[str] = ()


class FileDataset(Dataset):
    """A dataset in a folder."""

    needs_root = True
    holds: ClassVar[str]
    """The files that make a sequence, for messages, such as "files named a01_s01_e01_sdepth.bin"."""
    release: ClassVar[Release]
    drops_own_zeros: ClassVar[bool] = False
    """Whether `read_frames` sees to the option `drop_zeros`, because it moves points."""
    Options: ClassVar[type[FileOptions]] = FileOptions
    options: FileOptions
    root: Path
    _listing: Listing | None = None

    def __init__(self, root: Path | None, options: FileOptions) -> None:
        super().__init__(root, options)
        assert root is not None
        self.root = Path(os.path.abspath(root))  # `.` has no parent, in which some datasets have more files

    @abstractmethod
    def scan(self) -> Iterator[SequenceInfo | DatasetError]:
        """Everything in the folder, in the order of the dataset: sequences with all their frames, and what is damaged.

        Names, headers and sizes are looked at, not points.
        """

    @abstractmethod
    def read_frames(self, info: SequenceInfo, numbers: range) -> Iterator[Frame]:
        """Those frames of a sequence, in the units and axes of its files.

        Raises:
            DatasetError: a file is damaged.
        """

    def expected(self) -> Expected:
        """What a complete copy of the dataset would hold, as far as that is known."""
        return Expected()

    @property
    def listing(self) -> Listing:
        """The folder, scanned once; `frame_stride` is applied."""
        for _ in self.scanning():
            pass
        assert self._listing is not None
        return self._listing

    def scanning(self) -> Iterator[int]:
        """Scan the folder if that was not done yet; yields how much was found. Otherwise the first look at `listing` does it.

        Raises:
            DatasetError: a folder cannot be read.
        """
        if self._listing is not None:
            return
        sequences: list[SequenceInfo] = []
        damaged: list[Damage] = []
        try:
            for item in self.scan():
                if isinstance(item, DatasetError):
                    damaged.append(Damage(item, len(sequences)))
                else:
                    num_frames = len(range(0, item.num_frames, self.options.frame_stride))
                    sequences.append(item.model_copy(update={"num_frames": num_frames}))
                yield len(sequences) + len(damaged)
        except OSError as error:
            raise unreadable(Path(error.filename or self.root), error, "fix the folder") from None
        self._listing = Listing(tuple(sequences), tuple(damaged))

    def sequences(self) -> Sequence[SequenceInfo]:
        """All sequences of the folder; headers and sizes are checked, points are not read.

        Raises:
            DatasetError: the folder holds no sequence, one of them is damaged, or a list speaks of none of them.
        """
        sequences, damaged = self.listing.sequences, self.listing.damaged
        if damaged:
            first = damaged[0].error
            more = f" ({len(damaged) - 1} more damaged files)" if len(damaged) > 1 else ""
            hint = f"{first.hint}; `cross4d-cache check-data --dataset {self.name} --data {self.root}` lists all damage"
            raise DatasetError(first.found + more, expected=first.expected, hint=hint)
        if not sequences:
            raise DatasetError(
                f"{self.root} holds no {self.release.title} sequences", expected=self.holds, hint="pass their folder with `dataset.root`"
            )
        for item in self.joins():
            item.check()
        return sequences

    def frames(self, info: SequenceInfo) -> Iterator[Frame]:
        """The frames of a sequence, metres, OpenCV axes, with the points that the options keep.

        Raises:
            DatasetError: a file is damaged, or the options leave no point of a frame.
        """
        stride, volume = self.options.frame_stride, Volume(self.options.range, self.options.box)
        for number, read in enumerate(self.read_frames(info, range(0, (info.num_frames - 1) * stride + 1, stride))):
            frame = replace(read, points=self._to_opencv(read.points))
            if self.options.drop_zeros or volume != Volume(None, None):
                kept = volume.holds(frame.points)
                if not self.drops_own_zeros:
                    kept &= self.nonzero(read.points)
                if not kept.any():
                    raise DatasetError(
                        f"sequence {info.id}: the options drop_zeros, range and box leave no point of frame {number}",
                        expected="at least one point in every frame",
                        hint="widen `dataset.options` range or box: check-data without them prints the extent; or leave the sequence out",
                    )
                frame = frame[kept]
            yield frame

    def nonzero(self, points: Float[np.ndarray, "point 3"]) -> Bool[np.ndarray, " point"]:
        """Which points of a file `drop_zeros` keeps."""
        kept: Bool[np.ndarray, " point"] = (points != 0).any(axis=1) | (not self.options.drop_zeros)
        return kept

    def check_length(self, info: SequenceInfo, num_frames: int, path: Path) -> None:
        """Whether a file still has the frames (without `frame_stride`) that were listed.

        Raises:
            DatasetError: it changed.
        """
        if len(range(0, num_frames, self.options.frame_stride)) != info.num_frames:
            raise DatasetError(
                f"{path}: {num_frames} frames",
                expected=f"{info.num_frames} with frame_stride={self.options.frame_stride}, as when the folder was listed",
                hint="the file changed meanwhile; run the same command again",
            )

    def _to_opencv(self, points: Float32[np.ndarray, "point 3"]) -> Float32[np.ndarray, "point 3"]:
        axes = self.options.axes.split(",")
        signs = np.array([-1 if axis.startswith("-") else 1 for axis in axes], np.float32)
        order = ["xyz".index(axis[-1]) for axis in axes]
        scale = signs * np.float32(self.options.metres_per_unit)
        if order == [0, 1, 2] and (scale == 1).all():
            return points
        with np.errstate(all="ignore"):  # damaged files hold any number; what is not finite is refused later
            reordered: Float32[np.ndarray, "point 3"] = points[:, order] * scale
        return reordered
