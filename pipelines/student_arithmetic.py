"""What a student computes: floating point operations of matrix products, by what they are for."""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from cross4d_train.encoders import grouping

SEARCHES = ("farthest_points", "nearest_points", "ball_query", "ball_neighbours")
"""Functions of `grouping` that look for points."""


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Floating point operations of matrix products, a multiplication and an addition as two.

    `layers` and `attention` are those of the network's forward pass, `backward_layers` and `backward_attention` of its gradients. Not
    among them are `search`, distances to find neighbours by, and `recomputed`, what the backward pass does a second time to save memory.
    """

    layers: int
    attention: int
    backward_layers: int = 0
    backward_attention: int = 0
    search: int = 0
    recomputed: int = 0

    @property
    def without_attention(self) -> int:
        """Of the network, as far as it does not grow with the square of the tokens."""
        return self.layers + self.backward_layers

    @property
    def total(self) -> int:
        """Of the network."""
        return self.without_attention + self.attention + self.backward_attention


@contextmanager
def watch_searches(around: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Enter `around()` about every search for points that the package makes while the context lasts; one within another is not its own."""
    depth = 0

    def watched(search: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(search)
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal depth
            depth += 1
            try:
                with around() if depth == 1 else nullcontext():
                    return search(*arguments, **options)
            finally:
                depth -= 1

        return call

    originals = {name: getattr(grouping, name) for name in SEARCHES}
    replacements = {name: watched(search) for name, search in originals.items()}
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("cross4d_train.")]
    with ExitStack() as stack:
        for module in modules:
            for name in SEARCHES:
                if vars(module).get(name) is originals[name]:
                    stack.enter_context(patch.object(module, name, replacements[name]))
        yield


class _Tally:
    """Operations that were counted within its contexts."""

    def __init__(self, counter: FlopCounterMode) -> None:
        self._counter = counter
        self.total = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        before = int(self._counter.get_total_flops())
        yield
        self.total += int(self._counter.get_total_flops()) - before


class _WatchAttention(TorchFunctionMode):
    """Counts attention apart."""

    def __init__(self, tally: _Tally) -> None:
        super().__init__()
        self._tally = tally

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with self._tally() if function is F.scaled_dot_product_attention else nullcontext():
            return function(*args, **(kwargs or {}))


@contextmanager
def _watch_layers(tally: _Tally) -> Iterator[None]:
    """Count the forward passes of single layers."""
    contexts: list[AbstractContextManager[None]] = []

    def before(layer: nn.Module, _: Any) -> None:
        if not any(True for _ in layer.children()):
            contexts.append(tally())
            contexts[-1].__enter__()

    def after(layer: nn.Module, *_: Any) -> None:
        if not any(True for _ in layer.children()):
            contexts.pop().__exit__(None, None, None)

    hooks = register_module_forward_pre_hook(before), register_module_forward_hook(after)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def count_operations(forward: Callable[[], Tensor], *, backward: bool = False) -> Operations:
    """The operations of a forward pass and, if wanted, of the backward pass from the scalar that it gives.

    Attention is run as the plain products that it consists of, for the counter does not know every fused kernel; its gradients take twice
    as many, since each product has two factors. Layers that run forwards in the backward pass are taken as recomputed.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        search, attention, recomputed = _Tally(counter), _Tally(counter), _Tally(counter)
        with watch_searches(search), _WatchAttention(attention):
            result = forward()
        done = int(counter.get_total_flops())
        if backward:
            with _watch_layers(recomputed):
                result.backward()
        total = int(counter.get_total_flops())
    twice = 2 * attention.total if backward else 0
    return Operations(
        layers=done - search.total - attention.total,
        attention=attention.total,
        backward_layers=total - done - recomputed.total - twice,
        backward_attention=twice,
        search=search.total,
        recomputed=recomputed.total,
    )
