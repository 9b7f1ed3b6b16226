"""The generators of random numbers that a whole process shares: what draws from them depends on all else that the process does."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def global_generators_untouched(who: str) -> Iterator[None]:
    """Around what `who` does: an AssertionError if it drew from the generator that numpy or torch shares, or seeded one.

    Python's own is left out, as type checkers that look at some items of a list draw from it.
    """
    before = _states()
    yield
    moved = [name for name, state in _states().items() if state != before[name]]
    assert not moved, f"{who} draws from generators of its own; it moved the global one of {', '.join(moved)}"


def _states() -> dict[str, object]:
    return {
        "numpy (numpy.random)": repr([np.asarray(item).tolist() for item in np.random.get_state(legacy=True)]),
        "torch (torch.random)": bytes(torch.random.get_rng_state().numpy()),
    }
