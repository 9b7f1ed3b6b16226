"""Encoders on equal terms: rows of a table that differ in what a student learns from, and in nothing else."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from cross4d_cache.record import Record
from cross4d_train.clips import ClipSettings
from cross4d_train.evaluation.finetune import TuningSettings
from cross4d_train.evaluation.linear import HeadSettings
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.settings import EncoderSettings, RunSettings, TrainingSettings
from pipelines.benchmarks.machine import describe_machine
from pipelines.experiment.plan import pieces, runs_of, stores_of, trained
from pipelines.experiment.pool import default_jobs, do_all
from pipelines.experiment.report import record
from pipelines.experiment.table import Cell, Finished, Table, find, finish
from pipelines.experiment.work import EvaluationRun, Store, Student, build

RAW, STANDARDISED = "action raw", "action std"
PARTS = {"parts all": "all", "parts 1000": "budgets.1000", "parts 200": "budgets.200"}
FINE_TUNED = "fine-tuned"
LOSSES = {f"loss: {name}": f"loss.{name}" for name in ("student", "constant", "position")}
"""Losses of dense students on videos that they were not trained on."""
_COLUMNS = (RAW, STANDARDISED, *PARTS, FINE_TUNED, *LOSSES)


class Row(Record):
    """One way to get features of tokens: from an encoder, untrained (no objective) or trained on a store by an objective; or from
    no encoder at all, the stored targets of the tokens' points themselves.

    Of several learning rates the one with the best mean accuracy is shown, which favours the row.
    """

    name: str
    store: str
    objective: ObjectiveSettings | None
    targets: bool = False
    learning_rates: tuple[float, ...] = (1e-3,)
    finetuned: bool = False


class Budget(Record):
    """What every row of a table has in common: student, clips, steps, and how it is evaluated.

    The store's protocol decides which videos train the student, the heads, and test them. `finetune` is None to leave that out.
    """

    encoder: EncoderSettings
    clips: ClipSettings
    num_epochs: int
    clips_per_sequence: int
    protocol: str
    num_windows: int
    parts: bool
    finetune: TuningSettings | None

    def describe(self) -> str:
        """A line or two."""
        clips, head = self.clips, HeadSettings()
        lines = [
            f"{self.encoder.name} {self.encoder.size}, clips of {clips.num_frames} frames (every {clips.stride}.) x {clips.num_points} "
            f"points, {self.num_epochs} epochs of {self.clips_per_sequence} clips a sequence, protocol {self.protocol}",
            f"linear head: {head.optimizer}, rate {head.learning_rate:g}, {head.num_epochs} epochs, {self.num_windows} windows a video",
        ]
        if (tuning := self.finetune) is not None:
            rate = f"AdamW, rate {tuning.learning_rate:g}, {tuning.num_epochs} epochs"
            lines.append(f"fine-tuning: {rate}, {tuning.fraction:.0%} of the labels, at least one of each action")
        return "\n".join(lines)


class Comparison:
    """Rows on the stores of every data seed (`stores[data][name]`), with everything that they need below `root`."""

    def __init__(
        self, rows: Sequence[Row], stores: Mapping[str, Mapping[str, Store]], budget: Budget, *, reference: str, root: Path
    ) -> None:
        self.rows, self.stores, self.budget, self.reference, self.root = rows, stores, budget, reference, root

    def build(self) -> list[dict[str, Any]]:
        """Build the stores of all rows; what is said of each, data seed by data seed in the order of the rows."""
        needed = [stores[row.store] for stores in self.stores.values() for row in self.rows]
        return [build(store) for store in stores_of(needed, [])]

    def best_rates(self, seeds: int) -> dict[str, float]:
        """For every row the learning rate with the best mean standardised accuracy over so many seeds.

        It is chosen on test videos: rows that may choose, which are baselines, are flattered by it.
        """
        cells = {(row.name, rate): self._cells(row, rate) for row in self.rows for rate in row.learning_rates}
        self._do([cell for found in cells.values() for cell in found.values()], seeds)
        scores = {key: find(found[STANDARDISED], seeds).spread.mean for key, found in cells.items()}
        return {row.name: max(row.learning_rates, key=lambda rate: scores[row.name, rate]) for row in self.rows}

    def finished(self, seeds: int, rates: Mapping[str, float]) -> Finished:
        """The table of every row with its learning rate."""
        table = self.table(rates)
        self._do(table.cells(), seeds)
        return finish(table, seeds)

    def table(self, rates: Mapping[str, float]) -> Table:
        """Its cells, before anything is done. Every column is corrected by itself, and losses are tested against nothing."""
        rows = {row.name: self._cells(row, rates[row.name]) for row in self.rows}
        chosen = [f"{row.name} {rates[row.name]:g}" for row in self.rows if row.objective is not None]
        return Table(
            number=1,
            title="The same student, clips, steps and probes",
            columns=tuple(column for column in _COLUMNS if any(column in cells for cells in rows.values())),
            rows=rows,
            reference=self.reference,
            shown=tuple(LOSSES),
            by_column=True,
            note=f"Learning rates: {'; '.join(chosen)}.",
        )

    def _do(self, cells: Iterable[Cell], seeds: int) -> None:
        runs = runs_of(cells, seeds)
        do_all(pieces(trained(run.student for run in runs), runs, seeds), "cpu", default_jobs("cpu"))

    def _cells(self, row: Row, rate: float) -> dict[str, Cell]:
        """The cells of a row by column."""
        if row.targets:
            return {**self._probed(row, rate, "targets"), **(self._of_parts(row, rate, "targets") if self.budget.parts else {})}
        cells = self._probed(row, rate, "probe")
        if self.budget.parts:
            cells |= self._of_parts(row, rate, "parts")
        if row.finetuned and (tuning := self.budget.finetune) is not None:
            options = {"fractions": (tuning.fraction,), **tuning.model_dump(exclude={"fraction", "seed"})}
            tuned = self._runs(row, rate, "finetune", options)
            cells[FINE_TUNED] = Cell(runs=tuned, score="scores.0.video_accuracy", predictions="scores.0.predictions")
        if row.objective is not None and row.objective.name == "dense":
            losses = self._runs(row, rate, "held-out")
            cells |= {column: Cell(runs=losses, score=score) for column, score in LOSSES.items()}
        return cells

    def _probed(self, row: Row, rate: float, kind: str) -> dict[str, Cell]:
        runs = self._runs(row, rate, kind, {"num_windows": self.budget.num_windows})
        return {
            column: Cell(runs=runs, score=f"{name}.video_accuracy", predictions=f"{name}.predictions")
            for column, name in ((RAW, "raw"), (STANDARDISED, "standardised"))
        }

    def _of_parts(self, row: Row, rate: float, kind: str) -> dict[str, Cell]:
        options = {"num_windows": self.budget.num_windows} if kind == "targets" else {}
        runs = self._runs(row, rate, kind, options)
        return {column: Cell(runs=runs, score=f"parts.{place}") for column, place in PARTS.items()}

    def _runs(self, row: Row, rate: float, kind: str, options: Mapping[str, object] | None = None) -> tuple[EvaluationRun, ...]:
        """An evaluation of a row on the store of each data seed."""
        clips = {f"clips.{name}": value for name, value in self.budget.clips.model_dump().items()}
        return tuple(
            EvaluationRun(
                kind=kind,
                root=self.root,
                student=self._student(row, data, rate),
                encoder=self.budget.encoder,
                store=stores[row.store],
                options={**clips, "protocol": self.budget.protocol, **(options or {})},
            )
            for data, stores in self.stores.items()
        )

    def _student(self, row: Row, data: str, rate: float) -> Student:
        """The student of a row, untrained where it has no objective."""
        if row.objective is None:
            return Student(name=row.name)
        training = TrainingSettings(
            num_epochs=self.budget.num_epochs,
            clips_per_sequence=self.budget.clips_per_sequence,
            learning_rate=rate,
            side="train",
            protocol=self.budget.protocol,
        )
        settings = RunSettings(encoder=self.budget.encoder, objective=row.objective.as_new(), clips=self.budget.clips, training=training)
        name = re.sub(r"[^\w.-]+", "-", f"{row.name}_{data}_{rate:g}")
        return Student(name=name, root=self.root, store=self.stores[data][row.store], settings=settings)


def as_record(comparison: Comparison, finished: Finished, seconds: float) -> dict[str, object]:
    """The table for machines, and where it was measured."""
    return {
        "machine": describe_machine(torch.device("cpu")),
        "date": datetime.now(UTC).date().isoformat(),
        "minutes": round(seconds / 60, 1),
        "budget": comparison.budget.model_dump(mode="json"),
        "table": record(finished),
    }
