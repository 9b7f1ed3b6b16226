"""Which clips there are and in which order they come: pure functions of the store's index, the seed and the epoch."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from pydantic import Field

from cross4d_cache.errors import SettingsError
from cross4d_cache.record import Record
from cross4d_cache.types import SequenceInfo, Side


class ClipSettings(Record):
    """The shape of a clip: every `stride`-th frame, `num_frames` of them, resampled to `num_points` points each."""

    num_frames: int = Field(ge=1, le=10_000)
    num_points: int = Field(ge=1, le=1_000_000)
    stride: int = Field(ge=1, le=10_000)

    @property
    def span(self) -> int:
        """Frames of the sequence from a clip's first to its last."""
        return (self.num_frames - 1) * self.stride + 1

    def windows(self, info: SequenceInfo) -> int:
        """How many clips begin in a sequence; one that is too short still gives one."""
        return max(1, info.num_frames - self.span + 1)

    def frames(self, info: SequenceInfo, start: int) -> Int64[np.ndarray, " frame"]:
        """Frame numbers of the clip that begins at `start`; the last frame of a too short sequence repeats."""
        numbers = start + self.stride * np.arange(self.num_frames, dtype=np.int64)
        return np.minimum(numbers, info.num_frames - 1)


@dataclass(frozen=True, kw_only=True)
class ClipRequest:
    """One clip to read. `key` seeds the choice of its points, so that no worker's history decides it."""

    sequence: int
    start: int
    key: tuple[int, ...]


def select_sequences(sequences: Sequence[SequenceInfo], protocols: Sequence[str], *, protocol: str | None, side: Side) -> tuple[int, ...]:
    """Indices of the sequences on one side of a protocol, by default the dataset's first; without protocols, none is placed.

    Raises:
        SettingsError: an unknown protocol, or nothing on that side.
    """
    if side == "all":
        return tuple(range(len(sequences)))
    if protocol is not None or protocols or side in ("train", "test"):
        protocol = resolve_protocol(protocols, protocol)
    chosen = tuple(index for index, info in enumerate(sequences) if info.is_on(side, protocol))
    if not chosen:
        raise SettingsError(
            f"no sequence is on the {side} side of protocol {protocol!r}",
            expected=f"some of the {len(sequences)} sequences of the store",
            hint="build a store with both sides, choose another `training.protocol`, or pre-train with `training.side` all",
        )
    return chosen


def count_sides(sequences: Iterable[SequenceInfo], protocol: str | None) -> dict[str, int]:
    """How many sequences are on which side of a protocol: `train`, `test`, `unsplit` (placed by none) or `elsewhere` (by another alone)."""
    return dict(Counter(info.splits.get(str(protocol), "elsewhere" if info.splits else "unsplit") for info in sequences))


def resolve_protocol(protocols: Sequence[str], protocol: str | None) -> str:
    """The protocol asked for, or the dataset's first.

    Raises:
        SettingsError: there is no such protocol.
    """
    if protocol is None and protocols:
        return protocols[0]
    if protocol is None or protocol not in protocols:
        found = "the dataset has no split" if protocol is None else f"the dataset has no protocol {protocol!r}"
        raise SettingsError(found, expected=f"one of: {', '.join(protocols) or '(none)'}", hint="choose one with `protocol`")
    return protocol


def epoch_requests(
    clips: ClipSettings,
    sequences: Sequence[SequenceInfo],
    chosen: Sequence[int],
    *,
    clips_per_sequence: int,
    seed: int,
    epoch: int,
) -> list[ClipRequest]:
    """The clips of one epoch in their order: random windows of every chosen sequence, shuffled."""
    rng = np.random.default_rng([seed, epoch])
    windows = np.repeat([clips.windows(sequences[index]) for index in chosen], clips_per_sequence)
    starts = rng.integers(windows)
    items = np.repeat(np.asarray(chosen), clips_per_sequence)
    return [
        ClipRequest(sequence=int(items[item]), start=int(starts[item]), key=(seed, epoch, int(item)))
        for item in rng.permutation(len(items))
    ]


def even_requests(
    clips: ClipSettings, sequences: Sequence[SequenceInfo], chosen: Sequence[int], *, num_windows: int, seed: int
) -> list[ClipRequest]:
    """`num_windows` evenly spaced clips of every chosen sequence, sequence by sequence; where there are fewer, some repeat
    with other points."""
    requests = []
    for index in chosen:
        last = clips.windows(sequences[index]) - 1
        starts = np.linspace(0, last, num_windows) if num_windows > 1 else np.array([last / 2])
        requests += [
            ClipRequest(sequence=index, start=int(start), key=(seed, index, window)) for window, start in enumerate(np.rint(starts))
        ]
    return requests


@dataclass(frozen=True, kw_only=True)
class EpochPlan:
    """The batches of a whole training run. Batch `step` is the same whether the run was interrupted before it or not.

    `batch_size` counts clips over all devices; `rank` of `world_size` devices gets every `world_size`-th of them, and where that is one
    less than others get, the first clip of the batch again (see `across.Devices`).
    """

    clips: ClipSettings
    sequences: tuple[SequenceInfo, ...]
    chosen: tuple[int, ...]
    clips_per_sequence: int
    batch_size: int
    seed: int
    num_epochs: int
    first_step: int = 0
    rank: int = 0
    world_size: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; the last may be smaller."""
        return -(-self._clips_per_epoch // self.batch_size)

    @property
    def _clips_per_epoch(self) -> int:
        return len(self.chosen) * self.clips_per_sequence

    def num_clips(self, step: int) -> int:
        """Clips of a batch over all devices."""
        return min(self.batch_size, self._clips_per_epoch - step % self.steps_per_epoch * self.batch_size)

    @property
    def num_steps(self) -> int:
        """Batches of the run."""
        return self.steps_per_epoch * self.num_epochs

    @property
    def num_short(self) -> int:
        """Chosen sequences that are shorter than a clip."""
        return sum(self.sequences[index].num_frames < self.clips.span for index in self.chosen)

    def __len__(self) -> int:
        return self.num_steps - self.first_step

    def __iter__(self) -> Iterator[list[ClipRequest]]:
        for epoch in range(self.first_step // self.steps_per_epoch, self.num_epochs):
            requests = epoch_requests(
                self.clips,
                self.sequences,
                self.chosen,
                clips_per_sequence=self.clips_per_sequence,
                seed=self.seed,
                epoch=epoch,
            )
            first = max(self.first_step - epoch * self.steps_per_epoch, 0)
            for batch in range(first, self.steps_per_epoch):
                start = batch * self.batch_size
                clips = requests[start : start + self.batch_size]
                missing = -len(clips) % self.world_size
                yield [*clips, *clips[:1] * missing][self.rank :: self.world_size]
