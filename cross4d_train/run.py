"""The folder of a pre-training run: checkpoint, step log, TensorBoard events, settings.

Only the checkpoint is state: whatever the log holds beyond it is cut off when the run resumes.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel
from torch.utils.tensorboard import SummaryWriter

from cross4d_cache.errors import OutputError
from cross4d_train.checkpoint import Checkpoint, load_checkpoint
from cross4d_train.loop import Pretraining, StepRecord
from cross4d_train.settings import Origin, RunSettings, flatten


class RunResult(BaseModel):
    """What a finished run says of itself. The numbers are means over the last epoch."""

    checkpoint: str
    steps: int
    loss: float
    cosine: float
    variance: float
    visible: float
    num_sequences: int
    num_short_sequences: int
    settings: RunSettings
    origin: Origin


class RunFolder:
    """A run folder that is there and can be written to.

    Raises:
        OutputError: it is a file, cannot be written, or holds a run that `resume` does not allow to go on.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        self.checkpoint_path = path / "checkpoint.safetensors"
        self.log_path = path / "log.jsonl"
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path} is a file", expected="a folder, or nothing yet", hint="choose another place with --out")
        if self.checkpoint_path.exists() and not resume:
            raise OutputError(f"{path} holds a run already", hint="add --resume to go on with it, or choose another --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
            self.log_path.touch()
        except OSError as error:
            raise OutputError(f"cannot write to {path}: {error.strerror}", hint="choose another place with --out") from None

    def load(self) -> Checkpoint | None:
        """The checkpoint to go on from, if one was saved.

        Raises:
            CheckpointError: it cannot be read.
        """
        return load_checkpoint(self.checkpoint_path) if self.checkpoint_path.exists() else None

    def record(self, training: Pretraining) -> Iterator[StepRecord]:
        """Run to the end; log every step, save after every epoch and at the end.

        Raises:
            OutputError: the folder cannot be written any more.
            SettingsError: the loss is no longer finite.
        """
        if not training.fabric.is_global_zero:
            yield from training.steps()
            return
        try:
            yield from self._record(training)
        except OSError as error:
            raise OutputError(f"cannot write to {self.path}: {error.strerror}", hint="free some space; --resume goes on") from None

    def _record(self, training: Pretraining) -> Iterator[StepRecord]:
        self._cut_log(training.step)
        (self.path / "settings.json").write_text(training.settings.model_dump_json(indent=1) + "\n")
        events = SummaryWriter(str(self.path / "tensorboard"), purge_step=training.step)
        events.add_text("settings", json.dumps(flatten(training.settings), default=str), training.step)
        with self.log_path.open("a") as log, events:
            for record in training.steps():
                log.write(json.dumps(asdict(record)) + "\n")
                for name in ("loss", "cosine", "variance", "visible", "learning_rate", "clips_per_second", "waiting"):
                    events.add_scalar(name, getattr(record, name), record.step)
                if training.ends_epoch:
                    log.flush()
                    training.checkpoint().save(self.checkpoint_path)
                yield record

    def _cut_log(self, step: int) -> None:
        """Keep the lines of steps before `step`; a line that a kill cut short is beyond them."""
        lines = [line for line in self.log_path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        aside = self.log_path.with_name(".log.jsonl.partial")
        aside.write_text("".join(line for line in lines if json.loads(line)["step"] < step))
        aside.replace(self.log_path)

    def result(self, training: Pretraining) -> RunResult:
        """The outcome of a run that has finished.

        Raises:
            OutputError: the log of the last epoch is gone.
        """
        with self.log_path.open() as log:
            records = [json.loads(line) for line in log][-training.plan.steps_per_epoch :]
        if not records:
            raise OutputError(f"{self.log_path} is empty, though the run has finished", hint="the checkpoint is whole; use that")
        return RunResult(
            checkpoint=str(self.checkpoint_path),
            steps=training.step,
            num_sequences=len(training.plan.chosen),
            num_short_sequences=training.plan.num_short,
            settings=training.settings,
            origin=training.origin,
            **{name: sum(record[name] for record in records) / len(records) for name in ("loss", "cosine", "variance", "visible")},
        )
