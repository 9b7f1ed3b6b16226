"""What work computes on. It is no part of a request: the same request runs on a laptop, a GPU or several of them."""

from dataclasses import dataclass
from functools import cached_property

import torch
from lightning_fabric import Fabric

from cross4d_train.data import BatchLoader
from cross4d_train.dataset import ClipDataset
from cross4d_train.loop import make_fabric


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Devices by the name users know (`auto`, `cpu`, `cuda`, `cuda:N`; `auto` takes CUDA where there is one), and loader processes.

    The names are looked up where the work runs, so that resources can be sent to another machine.
    """

    device: str = "auto"
    num_devices: int = 1
    num_workers: int = 0

    @cached_property
    def fabric(self) -> Fabric:
        """What trains on these devices.

        Raises:
            SettingsError: there are no such devices here.
        """
        return make_fabric(self.device, self.num_devices)

    @property
    def torch_device(self) -> torch.device:
        """The device of this process.

        Raises:
            SettingsError: there is no such device here.
        """
        return self.fabric.device

    def loader(self, dataset: ClipDataset) -> BatchLoader:
        """What loads the clips of a dataset for this device."""
        return BatchLoader(dataset, num_workers=self.num_workers, pin_memory=self.torch_device.type == "cuda")
