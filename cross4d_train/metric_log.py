"""Where the numbers of every step go beside `log.jsonl`: TensorBoard, a CSV file or Weights & Biases.

Not through the loggers of Lightning Fabric: these fall silent where the surroundings (`SLURM_PROCID`) say that other processes log.
"""

import csv
import importlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from torch.utils.tensorboard import SummaryWriter

from cross4d_cache.errors import OutputError
from cross4d_cache.installed import needed
from cross4d_cache.record import flatten
from cross4d_cache.registry import look_up
from cross4d_train.loop import StepRecord
from cross4d_train.settings import RunSettings

DEFAULT = "tensorboard"


class MetricLog(ABC):
    """Takes the numbers of finished steps; a context that closes it."""

    @abstractmethod
    def write(self, record: StepRecord) -> None:
        """Log a finished step."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left."""

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_metric_log(name: str, folder: Path, settings: RunSettings, before: Sequence[StepRecord], step: int) -> MetricLog | None:
    """The log of this name in the folder of a run that is at `step`, None for `none`; `before` are the steps that its log has.

    Raises:
        OSError: it cannot be written.
        OutputError: Weights & Biases does not begin.
        SettingsError: see `check_logger`.
    """
    check_logger(name)
    begin = _LOGS[name]
    return None if begin is None else begin(folder, settings, before, step)


def check_logger(name: str) -> None:
    """Refuse a logger before any work is done.

    Raises:
        SettingsError: there is none of that name, or its package is not installed.
    """
    look_up(_LOGS, name, what="logger", setting="logger")
    if name == "wandb":
        _import_wandb()


class TensorBoardLog(MetricLog):
    """Events in `tensorboard/`; a run that resumes hides those of the steps that it repeats."""

    def __init__(self, folder: Path, settings: RunSettings, before: Sequence[StepRecord], step: int) -> None:
        self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
        self._events.add_text("settings", json.dumps(_flat(settings)), step)

    def write(self, record: StepRecord) -> None:
        """Add a scalar for each number."""
        for name, value in _numbers(record).items():
            self._events.add_scalar(name, value, record.step)

    def close(self) -> None:
        """Write the events that wait."""
        self._events.close()


class CsvLog(MetricLog):
    """`metrics.csv`, a line a step. A run that resumes writes the lines of earlier steps again, from its own log."""

    def __init__(self, folder: Path, settings: RunSettings, before: Sequence[StepRecord], step: int) -> None:
        self._file: TextIO = (folder / "metrics.csv").open("w", newline="")
        self._lines: csv.DictWriter[str] | None = None
        for record in before:
            self.write(record)

    def write(self, record: StepRecord) -> None:
        """Write a line, the first one after the names of the columns."""
        row: dict[str, float] = {"step": record.step, "epoch": record.epoch, **_numbers(record)}
        if self._lines is None:
            self._lines = csv.DictWriter(self._file, list(row))
            self._lines.writeheader()
        self._lines.writerow(row)

    def close(self) -> None:
        """Write the lines that wait."""
        self._file.close()


class WandbLog(MetricLog):
    """A run of Weights & Biases with its files in `wandb/`, where a run that resumes continues.

    Project, account and mode are those of the environment (`WANDB_PROJECT`, ...), the project `cross4d` by default.
    """

    def __init__(self, folder: Path, settings: RunSettings, before: Sequence[StepRecord], step: int) -> None:
        wandb = _import_wandb()
        known = folder / "wandb" / "run_id.txt"
        known.parent.mkdir(exist_ok=True)
        begun = known.read_text() if step and known.exists() else None
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "cross4d"),
                name=folder.name,
                dir=str(folder),
                config=_flat(settings),
                id=begun,
                resume=None if begun is None else "allow",
            )
        except wandb.Error as error:
            raise OutputError(
                f"Weights & Biases does not begin: {str(error).splitlines()[0][:200]}",
                expected="a login, or WANDB_MODE=offline",
                hint="run `wandb login`, or choose another `logger`",
            ) from None
        known.write_text(self._run.id)
        # Its own count of steps only grows, and a run that resumes repeats some.
        self._run.define_metric("*", step_metric="step")

    def write(self, record: StepRecord) -> None:
        """Send the numbers of a step."""
        self._run.log({"step": record.step, **_numbers(record)})

    def close(self) -> None:
        """Send what waits."""
        self._run.finish()


Begin = Callable[[Path, RunSettings, Sequence[StepRecord], int], MetricLog]

_LOGS: Mapping[str, Begin | None] = {DEFAULT: TensorBoardLog, "csv": CsvLog, "wandb": WandbLog, "none": None}


def _numbers(record: StepRecord) -> dict[str, float]:
    names = ("loss", "learning_rate", "clips_per_second", "waiting")
    return {name: getattr(record, name) for name in names} | record.scalars


def _flat(settings: RunSettings) -> dict[str, Any]:
    return flatten(settings.model_dump(mode="json"))


def _import_wandb() -> ModuleType:
    with needed("wandb", "logs to Weights & Biases", "pip install wandb, or choose another `logger`"):
        return importlib.import_module("wandb")
