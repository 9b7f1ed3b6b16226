"""Clips of a store: points resampled to a fixed count, teacher features kept ragged. Needs no torch, so loader processes start quickly.

A point's target is found through `rows`, so no array of frame x point x channel ever exists; an objective picks the targets
of its tokens on the device.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Int16, Int32, Int64, Integer, UInt16, UInt32

from cross4d_cache.store import Cache, open_cache
from cross4d_cache.types import UNLABELLED, UNLABELLED_PART, CachedClip
from cross4d_train.clips import ClipRequest, ClipSettings
from cross4d_train.shared_sequences import SharedSequences

MEMORY = 2**30
"""Bytes of decoded sequences that a process, or all workers of a loader together, keep: small stores are read once, large ones stream."""

NO_SURFACE = -1
"""A surface id of no surface."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One clip with exactly `point` points a frame. `rows` index `features`, -1 where a view does not see the point.

    `patches` gives the patch of every row, counted through all views of a frame; `part_labels` the class of every point, `surface_ids`
    the piece of surface it lies on, `frame_actions` the class of every frame. `key` is a number below 2**63 that its request decides.
    """

    key: int
    sequence: int
    action: int
    points: Float32[np.ndarray, "frame point 3"]
    rows: Int32[np.ndarray, "frame point view"]
    features: Float16[np.ndarray, "row channel"]
    patches: UInt16[np.ndarray, " row"]
    frame_features: Float16[np.ndarray, "frame channel"]
    part_labels: UInt16[np.ndarray, "frame point"] | None = None
    surface_ids: UInt32[np.ndarray, "frame point"] | None = None
    frame_actions: Int16[np.ndarray, " frame"] | None = None


class ClipDataset:
    """Reads any clip of a store on request.

    The store is opened where it is first read, so that each loader worker opens its own. Sequences stay in memory once read, decoded,
    until they fill `memory` bytes; all others are read from the store every time, the frames of the clip alone.
    """

    def __init__(self, path: Path | str, clips: ClipSettings, *, targets: bool = True, labels: bool = False) -> None:
        self.path, self.clips, self.targets, self.labels = path, clips, targets, labels
        self.memory = MEMORY
        self.shared: SharedSequences | None = None
        self._held: dict[int, CachedClip] = {}

    def shared_by(self, num_processes: int) -> "ClipDataset":
        """The dataset as each of some processes gets it: several keep sequences together, in the same `memory` bytes."""
        dataset = copy(self)
        if num_processes > 1 and self.memory:
            dataset.shared = SharedSequences(len(self.cache.sequences), self.memory)
        return dataset

    @cached_property
    def cache(self) -> Cache:
        """The open store of this process."""
        return open_cache(self.path)

    @cached_property
    def _bytes_left(self) -> int:
        return self.memory

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name not in ("cache", "_bytes_left")}
        return kept | {"_held": {}}

    def __getitem__(self, request: ClipRequest) -> Clip:
        info = self.cache.info(request.sequence)
        frames = self.clips.frames(info, request.start)
        if request.sequence not in self._held:
            self._hold(request.sequence, np.arange(info.num_frames))
        held = self._held.get(request.sequence)
        if held is not None:
            return resample(held, frames, request, self.clips.num_points)
        return resample(self._read(request.sequence, frames), np.arange(len(frames)), request, self.clips.num_points)

    def read_batch(self, requests: Sequence[ClipRequest]) -> dict[str, Any]:
        """The clips of a batch, joined: see `join_clips`."""
        return join_clips([self[request] for request in requests])

    def _hold(self, sequence: int, frames: Int64[np.ndarray, " frame"]) -> None:
        """Keep a whole sequence; the one that no longer fits ends the keeping."""
        if self.shared is not None:
            if (found := self.shared.get(sequence)) is None and not self.shared.is_full:
                self.shared.put(sequence, self._read(sequence, frames))
                found = self.shared.get(sequence)
            if found is not None:
                self._held[sequence] = found
        elif self._bytes_left > 0:
            whole = self._read(sequence, frames)
            self._bytes_left -= sum(value.nbytes for value in vars(whole).values() if isinstance(value, np.ndarray))
            if self._bytes_left >= 0:
                self._held[sequence] = whole

    def _read(self, sequence: int, frames: Int64[np.ndarray, " frame"]) -> CachedClip:
        return self.cache.read_clip(sequence, frames, targets=self.targets, labels=self.labels)


def resample(clip: CachedClip, frames: Int64[np.ndarray, " frame"], request: ClipRequest, num_points: int) -> Clip:
    """Choose the points of some frames of a clip by the request's key alone; features that none of them refers to are left out."""
    rng = np.random.default_rng(request.key)
    counts = np.diff(clip.point_offsets)[frames]
    starts = clip.point_offsets[frames]
    picks = np.stack([start + choose_points(rng, int(count), num_points) for start, count in zip(starts, counts, strict=True)])
    rows = clip.rows.take(picks, axis=0)  # several times as fast as indexing, like those below
    used = np.zeros(len(clip.features) + 1, dtype=bool)
    used[rows] = True  # -1, not visible, marks the extra place at the end
    used[-1] = False
    places = np.where(used, np.cumsum(used) - 1, -1).astype(np.int32)
    return Clip(
        key=int(rng.integers(2**63)),
        sequence=request.sequence,
        action=clip.info.action,
        points=clip.points.take(picks, axis=0),
        rows=places.take(rows),
        features=clip.features[used[:-1]],
        patches=clip.patches[used[:-1]],
        frame_features=clip.frame_features[frames],
        part_labels=None if clip.part_labels is None else clip.part_labels[picks],
        surface_ids=None if clip.surface_ids is None else clip.surface_ids[picks],
        frame_actions=None if clip.frame_actions is None else clip.frame_actions[frames],
    )


def choose_points(rng: np.random.Generator, count: int, num_points: int) -> Int64[np.ndarray, " point"]:
    """Distinct points if there are enough, else all of them and a random remainder."""
    chosen = rng.permutation(count)[:num_points]
    return np.concatenate([chosen, rng.integers(count, size=num_points - len(chosen))])


def join_clips(clips: Sequence[Clip]) -> dict[str, Any]:
    """The fields of one `Batch` as arrays; the features of its clips follow one another and their rows are moved accordingly."""
    counts = [len(clip.features) for clip in clips]
    first_rows = np.cumsum([0, *counts[:-1]], dtype=np.int32)
    rows = np.stack([clip.rows for clip in clips])
    return {
        "key": clips[0].key,
        "points": np.stack([clip.points for clip in clips]),
        "rows": np.where(rows >= 0, rows + first_rows[:, None, None, None], np.int32(-1)),
        "features": np.concatenate([clip.features for clip in clips]),
        "patches": np.concatenate([clip.patches for clip in clips]).astype(np.int32),
        "frame_features": np.stack([clip.frame_features for clip in clips]),
        "actions": np.array([clip.action for clip in clips]),
        "sequences": np.array([clip.sequence for clip in clips]),
        "part_labels": _stack_labels([clip.part_labels for clip in clips], UNLABELLED_PART),
        "surface_ids": _stack_labels([clip.surface_ids for clip in clips], NO_SURFACE),
        "frame_actions": _stack_labels([clip.frame_actions for clip in clips], UNLABELLED),
    }


def _stack_labels(labels: Sequence[Integer[np.ndarray, "..."] | None], missing: int) -> Int64[np.ndarray, "batch ..."] | None:
    """The labels of all clips, `missing` for those without; None if no clip has any."""
    known = next((values for values in labels if values is not None), None)
    if known is None:
        return None
    return np.stack([np.full(known.shape, missing) if values is None else values.astype(np.int64) for values in labels])
