"""What work computes on: how many processes load for a device where nobody says."""

import pytest
import torch

from cross4d_train import resources
from cross4d_train.resources import Resources


@pytest.mark.parametrize(
    ("cores", "device", "num_devices", "count"),
    [(2, "cpu", 1, 0), (3, "cuda", 1, 0), (4, "cpu", 1, 1), (64, "cpu", 1, 1), (4, "cuda", 1, 2), (16, "cuda", 1, 8), (64, "cuda", 1, 8),
     (16, "cuda", 4, 2), (4, "cuda", 4, 1)],
)  # fmt: skip
def test_loaders_by_cores_and_device(monkeypatch: pytest.MonkeyPatch, cores: int, device: str, num_devices: int, count: int) -> None:
    monkeypatch.setattr(resources, "usable_cores", lambda: cores)
    monkeypatch.setattr(Resources, "torch_device", property(lambda self: torch.device(device)))
    assert Resources(num_devices=num_devices).num_loaders == count
    assert Resources(num_devices=num_devices, num_workers=5).num_loaders == 5
    assert Resources(num_devices=num_devices, num_workers=0).num_loaders == 0
