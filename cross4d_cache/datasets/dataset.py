"""What every dataset reader offers: a deterministic listing, and one sequence at a time."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from cross4d_cache.datasets.mesh import Mesh
from cross4d_cache.errors import DatasetError
from cross4d_cache.join import Join
from cross4d_cache.record import Record
from cross4d_cache.types import Frame, PointCloudSequence, SequenceInfo


class Role(Enum):
    """What an option is for that decides no number of a sequence; its field is `Annotated` with it."""

    DESCRIBES = "says something about the data: recorded, and stores that differ in it are of one kind"
    LOCATES = "says where something lies on this machine: not recorded, as what lies there is"


class DatasetOptions(Record):
    """Reader options; every dataset subclasses it with its own fields, all with defaults. An option without a `Role` decides numbers."""

    def deciding(self) -> dict[str, Any]:
        """The options that decide numbers, as JSON values: a store's fingerprint is of them."""
        return self._of_role(None)

    def describing(self) -> dict[str, Any]:
        """The options that describe the data, as JSON values."""
        return self._of_role(Role.DESCRIBES)

    def _of_role(self, role: Role | None) -> dict[str, Any]:
        fields = type(self).model_fields.items()
        roles = {name: next((item for item in field.metadata if isinstance(item, Role)), None) for name, field in fields}
        return self.model_dump(mode="json", include={name for name in roles if roles[name] is role})


@dataclass(frozen=True)
class Damage:
    """What is wrong with something in a dataset, found after so many of its intact sequences."""

    error: DatasetError
    position: int


@dataclass(frozen=True)
class Listing:
    """What a dataset holds: its intact sequences, and what is damaged."""

    sequences: tuple[SequenceInfo, ...]
    damaged: tuple[Damage, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """Of all sequences that are here, damaged or not."""
        return (*(info.id for info in self.sequences), *(item.error.sequence for item in self.damaged if item.error.sequence))


class Dataset(ABC):
    """One dataset, on disk or generated.

    Subclasses set the class variables, list their sequences without reading points, and read one sequence lazily.
    Listing and reading are deterministic; the order of the listing is the order in the store.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    """Changes whenever the reader gives other numbers for the same files."""
    protocols: ClassVar[tuple[str, ...]]
    """Train/test protocols, the default first."""
    needs_root: ClassVar[bool]
    """Whether the dataset lives in a folder (`--data`)."""
    Options: ClassVar[type[DatasetOptions]] = DatasetOptions

    def __init__(self, root: Path | None, options: DatasetOptions) -> None:
        self.root, self.options = root, options

    @property
    def sensor_at_origin(self) -> bool:
        """Whether the origin of the coordinates is known to be where the sensor stood."""
        return False

    @property
    @abstractmethod
    def action_names(self) -> tuple[str, ...]:
        """Names of the action classes; `SequenceInfo.action` indexes them."""

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the semantic classes that `PointCloudSequence.part_labels` indexes; empty without labels."""
        return ()

    @abstractmethod
    def sequences(self) -> Sequence[SequenceInfo]:
        """All sequences in their fixed order.

        Raises:
            DatasetError: the folder holds no sequence, or a damaged one.
        """

    @property
    def listing(self) -> Listing:
        """The sequences that can be read, and what is damaged."""
        return Listing(tuple(self.sequences()))

    def scanning(self) -> Iterator[int]:
        """Find out what there is, if that takes long and was not done yet; yields how much was found so far."""
        yield from ()

    def joins(self) -> Sequence[Join]:
        """The user's own lists that speak of sequences by name, each joined with the sequences that are here."""
        return ()

    def notes(self) -> Sequence[str]:
        """What else a user should know of these data, a line each."""
        return ()

    @abstractmethod
    def frames(self, info: SequenceInfo) -> Iterator[Frame]:
        """The frames of one listed sequence, one after the other, so that a long one never has to be in memory as a whole.

        Raises:
            DatasetError: the file is damaged, naming it and the reason.
        """

    def read(self, info: SequenceInfo) -> PointCloudSequence:
        """All points of one listed sequence, metres, OpenCV axes.

        Raises:
            DatasetError: the file is damaged, a frame is empty, or coordinates are not finite.
        """
        return PointCloudSequence.collect(info, self.frames(info))

    def origin(self, info: SequenceInfo) -> tuple[float, float, float] | None:
        """What was subtracted from the coordinates of a sequence's files, in their unit and axes; None if nothing was.

        Raises:
            DatasetError: the file that tells is damaged.
        """
        return None

    def mesh(self, info: SequenceInfo, frame: int) -> Mesh | None:
        """The surface that the points of a frame lie on, None where it is not known.

        Raises:
            DatasetError: its file is damaged.
        """
        return None

    def fingerprint(self) -> str:
        """Hash of the listing: it changes when sequences come, go or change their length."""
        digest = hashlib.sha256()
        for info in self.listing.sequences:
            digest.update(f"{info.id}\0{info.num_frames}\0{info.action}\0{info.subject}\n".encode())
        return digest.hexdigest()
