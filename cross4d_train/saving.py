"""When the state of a run is saved, and which of its earlier checkpoints stay."""

import re
import time
from pathlib import Path

from cross4d_cache.durable import write_durably
from cross4d_train.checkpoint import Checkpoint


class Saving:
    """The checkpoint at `path`, written anew every `save_every` minutes, and the last `keep` before it, under the names of their steps.

    `step` is that of the checkpoint that is there, 0 if there is none.
    """

    def __init__(self, path: Path, *, step: int, save_every: float, keep: int) -> None:
        self.path, self.step, self.save_every, self.keep = path, step, save_every, keep
        self._saved = time.monotonic()

    def is_due(self) -> bool:
        """Whether the minutes between two checkpoints have passed."""
        return time.monotonic() - self._saved >= 60 * self.save_every

    def save(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint in the place of the last one.

        Raises:
            OutputError: it cannot be written.
            OSError: the last one cannot be kept.
        """
        if self.keep and self.step:
            self._keep_last()
        checkpoint.save(self.path)
        self.step, self._saved = checkpoint.record.step, time.monotonic()
        if self.keep:
            self._drop_oldest()

    def _keep_last(self) -> None:
        """Give the last checkpoint its second name. After a kill it may have both; the second is then made again."""
        kept = self._kept(self.step)
        kept.unlink(missing_ok=True)
        try:
            kept.hardlink_to(self.path)
        except OSError:  # a file system without hard links
            write_durably(kept, self.path.read_bytes())

    def _drop_oldest(self) -> None:
        """Remove all but the last `keep` before this step. What a run that was set back to an earlier step left beyond it stays."""
        steps = sorted(step for path in self.path.parent.iterdir() if (step := _step_of(path)) is not None and step < self.step)
        for step in steps[: -self.keep]:
            self._kept(step).unlink()

    def _kept(self, step: int) -> Path:
        return self.path.with_name(f"checkpoint_step{step}.safetensors")


def _step_of(path: Path) -> int | None:
    """The step of a checkpoint that was kept, None for any other file."""
    match = re.fullmatch(r"checkpoint_step([1-9]\d*)\.safetensors", path.name)
    return None if match is None else int(match[1])
