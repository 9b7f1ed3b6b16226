"""Putting the targets of a part's sequences together into the arrays of the store."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64, Shaped

from cross4d_cache.build.preparation import PreparedSequence
from cross4d_cache.build.targets import WindowTargets
from cross4d_cache.build.windows import SequenceWindow
from cross4d_cache.store import PartContents
from cross4d_cache.types import UNLABELLED, UNLABELLED_PART


@dataclass(kw_only=True)
class _Entry:
    """A sequence and the targets of its windows so far."""

    prepared: PreparedSequence
    targets: list[WindowTargets] = field(default_factory=list)


class PartAssembly:
    """Collects windows in the order in which the sequences follow one another."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def add(self, item: SequenceWindow, targets: WindowTargets) -> None:
        """Add the next window; a new sequence begins with its first one."""
        if not self._entries or self._entries[-1].prepared.info.id != item.sequence.info.id:
            self._entries.append(_Entry(prepared=item.sequence))
        self._entries[-1].targets.append(targets)

    def contents(self) -> PartContents:
        """The arrays of the part."""
        sequences = [entry.prepared for entry in self._entries]
        windows = [targets for entry in self._entries for targets in entry.targets]
        first_tubelets = np.cumsum([0, *(len(window.row_counts) for window in windows)])
        cameras = [views.cameras for item in sequences for views in item.views]
        return PartContents(
            sequences=tuple(item.info for item in sequences),
            point_offsets=_offsets(np.concatenate([np.diff(item.point_offsets) for item in sequences])),
            points=np.concatenate([item.grid for item in sequences]),
            boxes=np.stack([item.box for item in sequences]),
            patch_slot=np.concatenate([window.slots for window in windows]),
            frame_tubelet=np.concatenate([window.tubelets + first for window, first in zip(windows, first_tubelets, strict=False)]),
            feature_offsets=_offsets(np.concatenate([window.row_counts for window in windows])),
            features=np.concatenate([window.features for window in windows]),
            feature_patch=np.concatenate([window.patches for window in windows]),
            frame_features=np.concatenate([window.summaries for window in windows]),
            intrinsics=np.array([[camera.intrinsics for camera in row] for row in cameras]),
            world_to_camera=np.array([[camera.world_to_camera for camera in row] for row in cameras]),
            part_labels=_filled([item.part_labels for item in sequences], [len(item.grid) for item in sequences], UNLABELLED_PART),
            surface_ids=_complete([item.surface_ids for item in sequences]),
            frame_actions=_filled([item.frame_actions for item in sequences], [item.info.num_frames for item in sequences], UNLABELLED),
        )


def _offsets(counts: Int64[np.ndarray, " item"]) -> Int64[np.ndarray, " boundary"]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _filled(
    columns: Sequence[Shaped[np.ndarray, " _"] | None], counts: Sequence[int], unlabelled: int
) -> Shaped[np.ndarray, " row"] | None:
    """Labels of all points or frames of the part, if any sequence has some; `unlabelled` where one has none."""
    dtype = next((column.dtype for column in columns if column is not None), None)
    if dtype is None:
        return None
    filled = [np.full(count, unlabelled, dtype) if column is None else column for column, count in zip(columns, counts, strict=True)]
    return np.concatenate(filled)


def _complete(columns: Sequence[Shaped[np.ndarray, " _"] | None]) -> Shaped[np.ndarray, " row"] | None:
    """Ids of all points of the part, if every sequence has them."""
    present = [column for column in columns if column is not None]
    return np.concatenate(present) if len(present) == len(columns) else None
