"""What work computes on. It is no part of a request: the same request runs on a laptop, a GPU or several of them."""

from dataclasses import dataclass
from functools import cached_property

import torch
from lightning_fabric import Fabric

from cross4d_cache.types import Precision
from cross4d_cache.workers import usable_cores
from cross4d_train.data import BatchLoader
from cross4d_train.dataset import ClipDataset
from cross4d_train.loop import make_fabric

FEW_CORES = 4
"""With fewer, no process is started to load clips: all compute."""

MOST_LOADERS = 8
"""Each has decoded sequences of its own in memory."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Devices by the name users know (`auto`, `cpu`, `cuda`, `cuda:N`; `auto` takes CUDA where there is one), how many of each of the
    nodes, and loader processes of each device, None for as many as help.

    The names are looked up where the work runs, so that resources can be sent to another machine.
    """

    device: str = "auto"
    num_devices: int = 1
    num_nodes: int = 1
    num_workers: int | None = None

    @cached_property
    def fabric(self) -> Fabric:
        """What trains on these devices.

        Raises:
            SettingsError: there are no such devices here.
        """
        return self.fabric_in(None)

    @property
    def torch_device(self) -> torch.device:
        """The device of this process.

        Raises:
            SettingsError: there is no such device here.
        """
        return self.fabric.device

    @property
    def num_loaders(self) -> int:
        """Loader processes of a device. On a CPU one is enough to have the next batch ready, and few cores all compute.

        Raises:
            SettingsError: there is no such device here.
        """
        if self.num_workers is not None:
            return self.num_workers
        cores = usable_cores()
        if cores < FEW_CORES:
            return 0
        return max(1, min(MOST_LOADERS, cores // (2 * self.num_devices))) if self.torch_device.type == "cuda" else 1

    def fabric_in(self, precision: Precision | None) -> Fabric:
        """What trains on these devices in a precision, None in their own.

        Raises:
            SettingsError: there are no such devices here.
        """
        return make_fabric(self.device, self.num_devices, precision, num_nodes=self.num_nodes)

    def loader(self, dataset: ClipDataset) -> BatchLoader:
        """What loads the clips of a dataset for this device."""
        return BatchLoader(dataset, num_workers=self.num_loaders, pin_memory=self.torch_device.type == "cuda")
