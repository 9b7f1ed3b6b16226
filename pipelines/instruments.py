"""What a benchmark looks into a step with: a stopwatch for its sections, the size of its largest tensor, how much a GPU is asked to do."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipelines.benchmarks.machine import synchronize


class Stopwatch:
    """Seconds by section; on a GPU the sections wait for each other, so together they take longer than a step."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Add the time of the context to a section."""
        synchronize(self._device)
        begin = time.perf_counter()
        yield
        synchronize(self._device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*arguments: Any, **options: Any) -> Any:
            with self.section(name):
                return function(*arguments, **options)

        return timed


class Largest(TorchDispatchMode):
    """Remembers the bytes of the largest tensor that an operation gives."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            # A view that was expanded takes no memory of its own.
            if isinstance(value, Tensor):
                self.num_bytes = max(self.num_bytes, min(value.untyped_storage().nbytes(), value.numel() * value.element_size()))
        return result


class Launches(TorchDispatchMode):
    """Counts the operations that a GPU would be given, each of which takes the host about as long, whatever its size.

    Views and empty tensors give it nothing to do. What runs in `as_one` counts as a single one.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0
        self._together = False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not self._together and not _only_names(function, args, result):
            self.count += 1
        return result

    def as_one(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, counted as one operation."""

        def counted(*arguments: Any, **options: Any) -> Any:
            self._together = True
            try:
                return function(*arguments, **options)
            finally:
                self._together = False
                self.count += 1

        return counted


def _only_names(function: Any, args: Any, result: Any) -> bool:
    """Whether an operation gives a device nothing to do: it makes a view, or memory that is not filled, or reads a number (those of an
    optimiser, which counts its steps on the host)."""
    if function.namespace == "profiler" or function.overloadpacket.__name__ == "_local_scalar_dense":  # a name for a trace, a number read
        return True
    if function.overloadpacket.__name__ in ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"):
        return True
    results = result if isinstance(result, tuple | list) else (result,)
    if function._schema.is_mutable or not all(isinstance(value, Tensor) for value in results):
        return False
    given = {value.untyped_storage().data_ptr() for value in args if isinstance(value, Tensor)}
    return all(value.untyped_storage().data_ptr() in given for value in results)
