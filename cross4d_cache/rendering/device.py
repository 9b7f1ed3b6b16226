"""Where stage one computes, and how arrays get there."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from cross4d_cache.errors import SettingsError


def choose_device(name: str) -> torch.device:
    """The device a user names; `auto` takes CUDA where there is one. From now on matrix products are whole float32 there.

    Raises:
        SettingsError: no such device here.
    """
    torch.set_float32_matmul_precision("highest")  # NVIDIA's containers set another one by TORCH_ALLOW_TF32_CUBLAS_OVERRIDE
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(
            f"device {name!r} cannot be used: {reason}", expected="auto, cpu, cuda or cuda:N", hint="pass `device` cpu"
        ) from None
    return device


def choose_devices(name: str, count: int) -> list[torch.device]:
    """The first `count` GPUs of this machine, where a user asks for more than one device; else the one that `choose_device` gives.

    Raises:
        SettingsError: no such device here, or not as many.
    """
    if count == 1:
        return [choose_device(name)]
    available = torch.cuda.device_count() if torch.cuda.is_available() and name in ("auto", "cuda") else 0
    if not 1 <= count <= available:
        raise SettingsError(
            f"`num_devices` {count} with `device` {name}",
            expected=f"1 to {available}, as many GPUs as there are" if available else "1: that is a single device",
            hint="choose another `num_devices`" + ("" if available else ", or `device` cuda on a machine with several GPUs"),
        )
    return [choose_device(f"cuda:{index}") for index in range(count)]


def upload(values: Shaped[np.ndarray, "*shape"], device: torch.device) -> Shaped[Tensor, "*shape"]:
    """An array on the device. To a GPU it goes through pinned memory: a plain copy would wait for all work queued there."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


Mark = float | torch.cuda.Event
"""A moment: of the host's clock in seconds, or an event in a GPU's queue."""


def mark(device: torch.device) -> Mark:
    """Now, or, on a GPU, when it will have done what is queued."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def seconds_between(begin: Mark, end: Mark) -> float:
    """Seconds from one moment to another, waiting for the latter."""
    if isinstance(begin, float) or isinstance(end, float):
        assert isinstance(begin, float)
        assert isinstance(end, float)
        return end - begin
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000


class Lanes:
    """Two threads that compute at the same time, each on half of the CPU's threads, or on a GPU's stream of its own.

    While one renders, or copies results out, the other keeps the device busy; on a CPU, threads that need not wait for one another at
    every operation are also less disturbed by those that read and write. `submit` and leave `with`: results come in order.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._num_threads = device, torch.get_num_threads()
        self.count = 1 if device.type == "cpu" and self._num_threads == 1 else 2

    def __enter__(self) -> ThreadPoolExecutor:
        """Threads take over the number that torch has when they begin to compute."""
        if self._device.type == "cpu":
            torch.set_num_threads(self._num_threads // self.count)
        self._pool = ThreadPoolExecutor(self.count, initializer=_begin_lane, initargs=(self._device,))
        return self._pool

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._num_threads)


def _begin_lane(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_device(device)  # events are recorded on a thread's own
        torch.cuda.synchronize(device)  # weights and tables were put there on another stream
        torch.cuda.set_stream(torch.cuda.Stream(device))
