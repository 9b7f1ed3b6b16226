"""Reading sequences ahead of the device, in threads."""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cross4d_cache.build.preparation import PreparedSequence, prepare
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.errors import DatasetError, SettingsError
from cross4d_cache.types import RenderSettings, SequenceInfo

MOST_READERS = 8


@dataclass(kw_only=True)
class SequenceReader:
    """Prepares sequences for a store at `out`. `seconds` is how long its threads were busy, added up."""

    dataset: Dataset
    render: RenderSettings
    points_per_frame: int
    seed: int
    out: Path
    seconds: float = 0.0

    def sequences(self, infos: Iterable[SequenceInfo]) -> Iterator[PreparedSequence]:
        """The sequences in order, a few of them read before they are asked for.

        Raises:
            DatasetError: one of them is damaged.
            SettingsError: the cameras cannot see one.
        """
        num_readers = max(1, min(MOST_READERS, (os.cpu_count() or 1) // 2))  # the other half computes, or writes
        pool, waiting = ThreadPoolExecutor(num_readers), iter(infos)
        try:
            ahead = deque(pool.submit(self._read, info) for info in islice(waiting, 2 * num_readers + 2))
            while ahead:
                prepared, seconds = ahead.popleft().result()
                self.seconds += seconds
                ahead.extend(pool.submit(self._read, info) for info in islice(waiting, 1))
                yield prepared
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after an error nobody needs what is being read ahead

    def _read(self, info: SequenceInfo) -> tuple[PreparedSequence, float]:
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
