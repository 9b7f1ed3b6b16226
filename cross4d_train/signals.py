"""Signals by which schedulers announce that a job is to end: SIGTERM, and SIGUSR1 as `sbatch --signal` asks for it."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = 75
"""Exit code of a training that a signal stopped: all is saved, and the same command resumes it. (EX_TEMPFAIL: try again later.)"""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[list[str]]:
    """Call `stop` for every such signal in the meantime; gives the names of those that came, in their order. For the main thread alone."""
    names: list[str] = []

    def receive(number: int, _: FrameType | None) -> None:
        names.append(signal.Signals(number).name)
        stop()

    before = {number: signal.signal(number, receive) for number in SIGNALS}
    try:
        yield names
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set from Python
