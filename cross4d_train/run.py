"""The folder of a pre-training run: settings, checkpoint, earlier checkpoints, step log, and what a logger makes of the steps.

Only the checkpoint is state: whatever the log holds beyond it, or that cannot be read, is cut out when the run resumes.
"""

import fcntl
import json
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain, islice
from pathlib import Path
from statistics import mean
from typing import TextIO

from cross4d_cache.durable import names_in, partial_paths, write_durably
from cross4d_cache.errors import CheckpointError, OutputError
from cross4d_cache.record import NewerRecordError, Record, RecordError, added
from cross4d_train.checkpoint import CHECKPOINT_FILE, Checkpoint, load_checkpoint
from cross4d_train.clips import count_sides
from cross4d_train.loop import Pretraining, StepRecord
from cross4d_train.metric_log import DEFAULT, MetricLog, check_logger, open_metric_log
from cross4d_train.outcome import Outcome, cosine_of_constant
from cross4d_train.saving import Saving
from cross4d_train.settings import Origin, RunSettings

_PLACE = "an empty folder, or nothing yet, that can be written to"


class RunResult(Record):
    """What a finished run says of itself. The numbers are means over the last epoch."""

    checkpoint: str
    steps: int
    loss: float
    scalars: dict[str, float]
    num_sequences: int
    num_short_sequences: int
    settings: RunSettings
    origin: Origin
    sides: dict[str, int] = added({})
    """Of the sequences it learned from: how many were on which side of the protocol, as `count_sides` says."""
    outcome: Outcome | None = added(None)
    """What the last epoch is to be compared with."""

    @property
    def failure(self) -> str | None:
        """How the run ended as failed ones do, if it did."""
        if self.outcome is None:
            return None
        return self.outcome.failure(self.loss, self.scalars.get("cosine"), self.settings.training.num_epochs)


class RunFolder:
    """Where a run is or will be. Nothing is written before its first step is done, so a refused command leaves nothing behind.

    Raises:
        OutputError: a place that cannot be written to, that holds something else, or a run whose settings cannot be read.
        CheckpointError: a run of a newer release.
        SettingsError: a logger that cannot be used.
    """

    def __init__(self, path: Path, *, logger: str = DEFAULT) -> None:
        check_logger(logger)
        self.path, self.logger = path, logger
        self.checkpoint_path = path / CHECKPOINT_FILE
        self.log_path = path / "log.jsonl"
        self.settings_path = path / "settings.json"
        try:
            self._check()
        except OSError as error:
            raise OutputError(f"cannot use {path}: {error.strerror}", expected=_PLACE, hint="choose another place with `out`") from None

    def _check(self) -> None:
        above = next(folder for folder in (self.path, *self.path.absolute().parents) if folder.exists())
        if above == self.path and not above.is_dir():
            raise OutputError(f"{self.path} is a file", expected=_PLACE, hint="choose another place with `out`")
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            found = f"cannot write to {self.path}: {above} is {'read-only' if above.is_dir() else 'a file'}"
            raise OutputError(found, expected=_PLACE, hint="choose another place with `out`")
        if above != self.path:
            return
        names = sorted(names_in(self.path))
        if not names:
            return
        if not self.is_begun():
            raise OutputError(
                f"{self.path} holds files that are no run: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}",
                expected="the folder of a run, or an empty one",
                hint="choose another `out`",
            )

    def is_begun(self) -> bool:
        """Whether a run was begun here: its settings are the first file it writes."""
        return self.checkpoint_path.exists() or self._read_settings() is not None

    def load(self) -> Checkpoint | None:
        """The checkpoint to resume from, if one was saved.

        Raises:
            CheckpointError: it cannot be read.
        """
        return load_checkpoint(self.checkpoint_path) if self.checkpoint_path.exists() else None

    def settings(self, checkpoint: Checkpoint | None) -> RunSettings | None:
        """The settings of the run here, whose checkpoint is this one; None if no run was begun here.

        Raises:
            CheckpointError: the checkpoint is none of a run with the settings that are written here.
        """
        written = self._read_settings()
        if checkpoint is None or written is None:
            return written if checkpoint is None else checkpoint.record.settings
        differences = written.differences(checkpoint.record.settings, checkpoint.record.step)
        if differences:
            raise CheckpointError(
                f"{self.settings_path} and {self.checkpoint_path} differ:",
                details=differences,
                expected="the settings that the checkpoint was made with",
                hint=f"put back the one that was changed, or remove {self.settings_path}: the checkpoint has its settings too",
            )
        return written

    def _read_settings(self) -> RunSettings | None:
        """The settings that are written here, None if there are none or they are damaged."""
        try:
            return RunSettings.from_json(self.settings_path.read_bytes())
        except NewerRecordError as error:
            raise CheckpointError(
                f"{self.settings_path} was {error.found}", expected="settings that this release knows", hint="update cross4d"
            ) from None
        except (FileNotFoundError, RecordError):
            return None
        except OSError as error:
            raise OutputError(
                f"cannot read {self.settings_path}: {error.strerror}", expected="the settings of a run", hint="fix its permissions"
            ) from None

    def record(self, training: Pretraining, *, save_every: float = math.inf, keep: int = 0) -> Iterator[StepRecord]:
        """Run to the end, or until the training is asked to stop; log every step.

        The state is saved after every epoch, at the end, and once `save_every` minutes have passed since it was saved. Of the checkpoints
        before the last one, `keep` are kept, under the names of their steps.

        Raises:
            OutputError: the folder cannot be written to, or another process trains in it.
            CheckpointError: a run with other settings was begun here.
            SettingsError: the loss is no longer finite.
        """
        self._check_settings(training)
        if not training.fabric.is_global_zero:
            yield from training.steps()
            return
        start, steps = training.step, training.steps()
        first = next(steps, None)
        if first is None:
            return
        saving = Saving(self.checkpoint_path, step=start, save_every=save_every, keep=keep)
        with self._alone():
            yield from self._record(training, start, chain([first], steps), saving)

    def _check_settings(self, training: Pretraining) -> None:
        """Refuse to write over the settings of another run."""
        written = self._read_settings()
        differences = [] if written is None else training.settings.differences(written, training.step)
        if differences:
            raise other_settings(self.path, differences)

    def _record(self, training: Pretraining, start: int, steps: Iterator[StepRecord], saving: Saving) -> Iterator[StepRecord]:
        with self._writing():
            log, metrics = self._begin(training.settings, start)
        try:
            for record in steps:
                with self._writing():
                    log.write(json.dumps(record.model_dump(mode="json")) + "\n")
                    if metrics is not None:
                        metrics.write(record)
                    if training.ends_epoch or training.stopped or saving.is_due():
                        log.flush()
                        saving.save(training.checkpoint())
                yield record
        finally:
            with self._writing(), metrics or nullcontext(), log:
                pass  # closing writes what is left, so it can fail as any other write

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A lock of the folder that ends with the process, however that ends: two runs would write one log."""
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    f"another process trains in {self.path}", expected="one at a time", hint="wait for it, or choose another `out`"
                ) from None
            except OSError:
                pass  # a file system without locks
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Around what writes to the folder, and nothing else: a store that cannot be read is no matter of space."""
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"cannot write to {self.path}: {error.strerror or error}",
                expected="a folder that can be written to, with space left",
                hint="free some space or fix its permissions, then run the same command again",
            ) from None

    def _begin(self, settings: RunSettings, step: int) -> tuple[TextIO, MetricLog | None]:
        """The log and what the logger makes of it, cut back to what was there before `step`."""
        for left in partial_paths(self.path):
            left.unlink()
        write_durably(self.settings_path, (settings.model_dump_json(indent=1) + "\n").encode())
        lines = self.log_path.read_bytes().splitlines() if self.log_path.exists() else []
        kept = [(line, record) for line in lines if (record := _read_line(line)) is not None and record.step < step]
        write_durably(self.log_path, b"".join(line + b"\n" for line, _ in kept))
        metrics = open_metric_log(self.logger, self.path, settings, [record for _, record in kept], step)
        return self.log_path.open("a"), metrics

    def result(self, training: Pretraining) -> RunResult:
        """The outcome of a run that has finished.

        Raises:
            OutputError: the log of the last epoch is gone.
        """
        steps_per_epoch = training.plan.steps_per_epoch
        try:
            with self.log_path.open("rb") as log:
                begin = list(islice(log, steps_per_epoch))
                lines = deque(chain(begin, log), maxlen=steps_per_epoch)
        except OSError as error:
            raise OutputError(
                f"cannot read {self.log_path}: {error.strerror}",
                expected="the log of the run",
                hint="the checkpoint is whole; use that",
            ) from None
        records = _read_steps(lines, training.step - steps_per_epoch, training.step)
        if records is None:
            raise OutputError(
                f"{self.log_path} lacks steps of the last epoch, though the run has finished",
                expected=f"{steps_per_epoch} lines, one a step",
                hint="the checkpoint is whole; use that",
            )
        first = _read_steps(begin, 0, steps_per_epoch)
        return RunResult(
            checkpoint=str(self.checkpoint_path),
            steps=training.step,
            num_sequences=len(training.plan.chosen),
            num_short_sequences=training.plan.num_short,
            sides=count_sides(
                (training.dataset.cache.sequences[index] for index in training.plan.chosen), training.settings.training.protocol
            ),
            settings=training.settings,
            origin=training.origin,
            loss=mean(record.loss for record in records),
            scalars={name: mean(record.scalars[name] for record in records) for name in records[-1].scalars},
            outcome=Outcome(
                first_loss=None if first is None else mean(record.loss for record in first), constant_cosine=cosine_of_constant(training)
            ),
        )


def other_settings(path: Path, differences: list[str]) -> CheckpointError:
    """The error of a command whose settings are not those of the run in a folder."""
    return CheckpointError(
        f"the run in {path} was begun with other settings:",
        details=differences,
        expected="the settings there; only `training.num_epochs` may grow",
        hint="give those, or `resume` alone, which takes them from the run; or choose another `out`",
    )


def _read_steps(lines: Iterable[bytes], first: int, last: int) -> list[StepRecord] | None:
    """The records of some lines if they are those of the steps from `first` to below `last`."""
    records = [record for line in lines if (record := _read_line(line)) is not None]
    return records if [record.step for record in records] == list(range(first, last)) else None


def _read_line(line: bytes) -> StepRecord | None:
    """A line of the log, None if a kill cut it short or something else wrote it."""
    try:
        return StepRecord.from_json(line)
    except RecordError:
        return None
