"""Reading sequences ahead of the device, in other processes or in threads."""

import pickle
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from cross4d_cache.build.preparation import PreparedSequence, prepare
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.errors import DatasetError, SettingsError
from cross4d_cache.types import RenderSettings, SequenceInfo
from cross4d_cache.workers import Workers, usable_cores

Timed = tuple[PreparedSequence, float]
"""A sequence, and how many seconds it took."""

FEW_CORES = 4
"""With fewer, reading shares this process: others would take its cores, and each imports what this one has imported."""

MOST_THREADS = 8
"""They share one interpreter: more would only wait for one another."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Makes sequences ready for a store at `out`."""

    dataset: Dataset
    render: RenderSettings
    points_per_frame: int
    seed: int
    out: Path

    def __call__(self, info: SequenceInfo) -> Timed:
        """One sequence.

        Raises:
            DatasetError: it is damaged.
            SettingsError: the cameras cannot see it.
        """
        begin = time.perf_counter()
        try:
            frames = self.dataset.frames(info)
            info = info.model_copy(update={"origin": self.dataset.origin(info)})
            prepared = prepare(info, frames, self.render, points_per_frame=self.points_per_frame, seed=self.seed)
        except DatasetError as error:
            option = f"{error.hint} (a new plan: use another `out`); or " if error.hint and "`dataset.options`" in error.hint else ""
            hint = option + (
                "fix the file and run the same command again, which resumes here; or leave the sequence out with"
                f" `exclude` {info.id}, which changes the plan: with another `out`, or after deleting {self.out}"
            )
            raise DatasetError(error.found, expected=error.expected, hint=hint) from None
        except SettingsError as error:
            raise SettingsError(f"sequence {info.id}: {error.found}", expected=error.expected, hint=error.hint) from None
        return prepared, time.perf_counter() - begin

    @property
    def can_travel(self) -> bool:
        """Whether another process can do it. The classes of a notebook or of a script that is running are found in this one alone."""
        try:
            return b"__main__" not in pickle.dumps(self)
        except (pickle.PicklingError, AttributeError, TypeError):
            return False


@dataclass(kw_only=True)
class SequenceReader:
    """Prepares sequences in `num_workers` processes, or, with 0, in threads of this one; None is as many as help.

    `seconds` is how long they were busy, added up.
    """

    preparation: Preparation
    num_workers: int | None = None
    seconds: float = 0.0

    def sequences(self, infos: Iterable[SequenceInfo]) -> Iterator[PreparedSequence]:
        """The sequences in order, a few of them read before they are asked for.

        Raises:
            DatasetError: one of them is damaged.
            SettingsError: the cameras cannot see one.
            WorkerError: a process cannot be started, was killed, or gives no answer.
        """
        count = self._count() if self.num_workers is None else self.num_workers
        for prepared, seconds in self._in_processes(infos, count) if count else self._in_threads(infos):
            self.seconds += seconds
            yield prepared

    def _count(self) -> int:
        cores = usable_cores()
        return cores // 2 if cores >= FEW_CORES and self.preparation.can_travel else 0  # the other half computes, or writes

    def _in_processes(self, infos: Iterable[SequenceInfo], count: int) -> Iterator[Timed]:
        waiting = iter(infos)
        first = list(islice(waiting, count))  # no more processes than sequences, and none for a store that is complete
        workers: Workers[SequenceInfo, Timed] = Workers(self.preparation, len(first), _as_it_is)
        yield from workers.map(chain(first, waiting))

    def _in_threads(self, infos: Iterable[SequenceInfo]) -> Iterator[Timed]:
        num_threads = max(1, min(MOST_THREADS, usable_cores() // 2))
        pool, waiting = ThreadPoolExecutor(num_threads), iter(infos)
        try:
            ahead = deque(pool.submit(self.preparation, info) for info in islice(waiting, 2 * num_threads + 2))
            while ahead:
                timed = ahead.popleft().result()
                ahead.extend(pool.submit(self.preparation, info) for info in islice(waiting, 1))
                yield timed
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after an error nobody needs what is being read ahead


def _as_it_is(timed: Timed) -> Timed:
    return timed
