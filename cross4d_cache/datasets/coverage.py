"""Which sequences are long enough for a clip: published numbers leave the others out, and often without a word."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cross4d_cache.types import SequenceInfo


@dataclass(frozen=True)
class SideCoverage:
    """Of one side of a protocol: its videos, how many have a full clip, and the ids of those that are short."""

    videos: int
    full: int
    short: tuple[str, ...]


@dataclass(frozen=True)
class ClipCoverage:
    """The sides of a protocol, `train` before `test`, for clips of `length` frames."""

    protocol: str
    length: int
    sides: Mapping[str, SideCoverage]


def clip_coverage(sequences: Iterable[SequenceInfo], protocol: str, length: int) -> ClipCoverage:
    """How many sequences on each side of a protocol have at least `length` frames; sides without a sequence are left out."""
    sides: dict[str, list[SequenceInfo]] = {"train": [], "test": []}
    for info in sequences:
        if protocol in info.splits:
            sides[info.splits[protocol]].append(info)
    counts = {}
    for side, infos in sides.items():
        short = tuple(info.id for info in infos if info.num_frames < length)
        if infos:
            counts[side] = SideCoverage(len(infos), len(infos) - len(short), short)
    return ClipCoverage(protocol, length, counts)
