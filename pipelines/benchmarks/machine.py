"""The machine that a benchmark runs on: what it is, how fast it multiplies matrices, and the memory that this process takes of it."""

import os
import platform
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

MATMUL_SIDES = {"cpu": 1024, "cuda": 8192}
MATMUL_BLOCKS = 10
SAMPLE_SECONDS = 0.01


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What to write beside a measurement."""
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gigabytes": round(memory / 2**30, 1),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def synchronize(device: torch.device) -> None:
    """Wait for all work that is queued on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of products of large square matrices, a multiplication and an addition counted as two: the best of several blocks."""
    side, products = MATMUL_SIDES[device.type], 10 if device.type == "cuda" else 1
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(1 + MATMUL_BLOCKS):
        synchronize(device)
        begin = time.perf_counter()
        for _ in range(products):
            one @ other
        synchronize(device)
        best = max(best, products * 2 * side**3 / (time.perf_counter() - begin))
    return best


def peak_memory() -> float:
    """Largest resident memory of this process so far, megabytes.

    Unlike `getrusage` it does not begin with the size of the process that started this one.
    """
    line = next(line for line in _lines("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def resident_memory() -> float:
    """Resident memory of this process now, megabytes."""
    return int(_lines("/proc/self/statm")[0].split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class MemoryWatch:
    """Samples the resident memory of this process, in a thread, while the context lasts; `before` and `peak` are megabytes."""

    def __init__(self) -> None:
        self.before = self.peak = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self.before = self.peak = resident_memory()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, resident_memory())


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
