"""What a process of a pool does first."""

import multiprocessing
import os
import threading

import torch


def begin_worker(_: int = 0) -> None:
    """Compute in one thread, and end with the process that it works for: neither pools nor torch's loaders notice when that is killed."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
