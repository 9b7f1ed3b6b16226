"""Clips of a store for your own training code: an ordinary dataset of torch, whose items have fixed shapes."""

import os
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from cross4d_cache.options import change
from cross4d_cache.store import open_cache
from cross4d_cache.types import UNLABELLED_PART, Side, mean_over_views
from cross4d_train.clips import even_requests, select_sequences
from cross4d_train.dataset import ClipDataset
from cross4d_train.settings import recipe_clips


class StoreDataset(Dataset[dict[str, Any]]):
    """`num_windows` evenly spaced clips of every sequence on a side of a protocol, by default all, sequence by sequence.

    An item has `points` (frame, point, 3), metres; `action`, -1 if unknown; `sequence`, its index in the store; where the dataset has
    names of parts `part_labels` (frame, point), 65,535 if unknown; and with `targets` also `targets` (frame, point, channel), the mean
    over the views that see a point, zeros where none does, and `visible` (frame, point). Clips have the shape of the recipe of the store's
    dataset, unless `num_frames`, `num_points` or `stride` say otherwise.

    Items are the same every time, in any process: `seed`, sequence and window draw the points of an item, which come in random order,
    without repeats if the frame has enough. For other points every epoch, make another dataset with another seed.

    Raises:
        CacheError: the store cannot be read.
        SettingsError: a setting that cannot work.
    """

    def __init__(
        self,
        store: Path | str,
        *,
        num_frames: int | None = None,
        num_points: int | None = None,
        stride: int | None = None,
        side: Side = "all",
        protocol: str | None = None,
        num_windows: int = 1,
        targets: bool = False,
        seed: int = 0,
    ) -> None:
        cache = open_cache(store)
        shape = {"num_frames": num_frames, "num_points": num_points, "stride": stride}
        given = {name: value for name, value in shape.items() if value is not None}
        self.clips = change(recipe_clips(cache.manifest.dataset.name), given)
        chosen = select_sequences(cache.sequences, cache.manifest.dataset.protocols, protocol=protocol, side=side)
        self.requests = even_requests(self.clips, cache.sequences, chosen, num_windows=num_windows, seed=seed)
        self._targets, self._has_parts = targets, len(cache.manifest.dataset.part_names) > 0
        self._clips = ClipDataset(store, self.clips, targets=targets, labels=True)
        self._process = os.getpid()

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        clip = self._of_process()[self.requests[index]]
        item: dict[str, Any] = {"points": clip.points, "action": clip.action, "sequence": clip.sequence}
        if self._has_parts and clip.part_labels is not None:
            item["part_labels"] = clip.part_labels.astype(np.int64)
        elif self._has_parts:
            item["part_labels"] = np.full(clip.points.shape[:2], UNLABELLED_PART)
        if self._targets:
            item["targets"], item["visible"] = mean_over_views(clip.rows, clip.features)
        return item

    def _of_process(self) -> ClipDataset:
        """What this process reads from: one that was forked uses no connections of its parent."""
        if self._process != os.getpid():
            self._clips, self._process = copy(self._clips), os.getpid()
        return self._clips
