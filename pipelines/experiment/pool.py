"""Doing the pieces of work of a recipe, several at a time, each in a process of its own."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

import torch

from cross4d_cache.errors import user_errors
from cross4d_cache.progress import progress
from pipelines.experiment.work import Piece, Student
from pipelines.processes import begin_worker

MOST_LOADERS = 8
"""Loader processes of a training or an evaluation on a GPU; on a CPU it loads its clips itself."""


def default_jobs(device: str) -> int:
    """How many pieces of work are done at a time: on a CPU as many as there are cores, on a GPU one."""
    return (os.cpu_count() or 1) if torch.device(device).type == "cpu" else 1


def do_all(work: Sequence[Piece], device: str, jobs: int) -> None:
    """Whatever is not done yet, `jobs` at a time, each in a process with one thread: on a CPU faster than the reverse, and a GPU has
    work from one student while another waits.

    What stands first is begun first, but no evaluation before its student is trained.
    """
    waiting = [item for item in work if not item.is_done()]
    on_cpu = torch.device(device).type == "cpu"
    num_loaders = 0 if on_cpu else max(1, min(MOST_LOADERS, (os.cpu_count() or 1) // jobs - 1))
    done = _in_processes(waiting, device, num_loaders, jobs) if on_cpu or jobs > 1 else _one_by_one(waiting, device, num_loaders)
    for _ in progress(done, total=len(work), initial=len(work) - len(waiting), unit="run"):
        pass


def _one_by_one(waiting: Sequence[Piece], device: str, num_loaders: int) -> Iterator[None]:
    for item in waiting:
        item.run(device, num_loaders)
        yield


def _in_processes(waiting: list[Piece], device: str, num_loaders: int, jobs: int) -> Iterator[None]:
    untrained = {item.folder for item in waiting if isinstance(item, Student)}
    running: dict[Future[None], Piece] = {}
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=begin_worker) as pool:
        try:
            while waiting or running:
                ready = [item for item in waiting if isinstance(item, Student) or item.student.folder not in untrained]
                for item in ready[: jobs - len(running)]:
                    waiting.remove(item)
                    running[pool.submit(_do, item, device, num_loaders)] = item
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    done.result()
                    finished = running.pop(done)
                    if isinstance(finished, Student):
                        untrained.remove(finished.folder)
                    yield
        except BaseException:
            pool.shutdown(wait=False)  # the error is told now; what is running is waited for when the recipe exits
            raise


def _do(item: Piece, device: str, num_loaders: int) -> None:
    with user_errors():
        item.run(device, num_loaders)
