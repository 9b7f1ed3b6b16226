"""Batches of clips on their way to the device, loaded by this process or by others."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16, Float32, Int32, Int64
from torch import Tensor

from cross4d_cache.workers import Workers
from cross4d_train.augment import Augmentation, augment
from cross4d_train.clips import ClipRequest
from cross4d_train.dataset import Clip, ClipDataset, join_clips

AUGMENTING = 0x6A7F91D3
"""Makes of the key of a batch another one."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Clips of one step. `rows` index the features and patches of the whole batch, -1 where a view does not see the point.

    `key` decides everything random that is done with the batch. Labels that some of its clips lack are `UNLABELLED_PART` or
    `UNLABELLED` there, surface ids `NO_SURFACE`.
    """

    key: int
    points: Float32[Tensor, "batch frame point 3"]
    rows: Int32[Tensor, "batch frame point view"]
    features: Float16[Tensor, "row channel"]
    patches: Int32[Tensor, " row"]
    frame_features: Float16[Tensor, "batch frame channel"]
    actions: Int64[Tensor, " batch"]
    sequences: Int64[Tensor, " batch"]
    part_labels: Int64[Tensor, "batch frame point"] | None = None
    surface_ids: Int64[Tensor, "batch frame point"] | None = None
    frame_actions: Int64[Tensor, "batch frame"] | None = None

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> "Batch":
        """The batch of these fields, without a copy."""
        values: dict[str, Any] = {
            name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in arrays.items()
        }
        return cls(**values)

    def __len__(self) -> int:
        return len(self.points)

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device; copies from pinned memory overlap with computation."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The batch in pinned memory."""
        return self._map(Tensor.pin_memory)

    def generator(self) -> torch.Generator:
        """A new generator, on the CPU: equal batches draw equal numbers, in a run that never stopped and in one that resumed."""
        return torch.Generator().manual_seed(self.key)

    def augmented(self, augmentation: Augmentation) -> "Batch":
        """The batch with its clips changed at random, by numbers that nothing else draws."""
        if augmentation == Augmentation():
            return self
        generator = torch.Generator().manual_seed(self.key ^ AUGMENTING)
        return replace(self, points=augment(self.points, augmentation, generator))

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        tensors = ((field.name, value) for field in fields(self) if isinstance(value := getattr(self, field.name), Tensor))
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in tensors}
        return replace(self, **changed)


def collate(clips: Sequence[Clip]) -> Batch:
    """One batch of clips."""
    return Batch.of(join_clips(clips))


class BatchLoader:
    """Loads batches of a dataset, in processes that live as long as it does: starting them takes a second."""

    def __init__(self, dataset: ClipDataset, *, num_workers: int = 0, pin_memory: bool = False) -> None:
        self.dataset, self.num_workers = dataset, num_workers
        self._pinned_for = torch.cuda.current_device() if pin_memory else None

    @cached_property
    def _workers(self) -> Workers[Sequence[ClipRequest], Batch]:
        dataset = self.dataset.shared_by(self.num_workers)
        inherited = () if dataset.shared is None else (dataset.shared.descriptor,)
        return Workers(dataset.read_batch, self.num_workers, self._receive, inherited)

    def load(self, batches: Iterable[Sequence[ClipRequest]]) -> Iterator[Batch]:
        """Exactly these batches, in their order, whatever the number of workers. One call at a time.

        Raises:
            CacheError: the store cannot be read.
            WorkerError: a worker cannot be started, was killed, or gives no answer.
        """
        if self.num_workers:
            yield from self._workers.map(batches)
        else:
            yield from (self._receive(self.dataset.read_batch(requests)) for requests in batches)

    def _receive(self, arrays: Mapping[str, Any]) -> Batch:
        batch = Batch.of(arrays)
        if self._pinned_for is None:
            return batch
        with torch.cuda.device(self._pinned_for):  # a thread begins with device 0, and would make a context there
            return batch.pin_memory()


def in_batches(requests: Sequence[ClipRequest], size: int) -> list[Sequence[ClipRequest]]:
    """Requests in their order, `size` at a time."""
    return [requests[start : start + size] for start in range(0, len(requests), size)]
