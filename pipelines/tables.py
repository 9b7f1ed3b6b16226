"""Outcomes of a comparison as a table: means, deviations, and paired tests of one row against the others."""

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import mean, stdev
from typing import Any

import torch

from cross4d_train.evaluation.statistics import holm, paired_t
from pipelines.judging import Budget, Outcome


def best_rates(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """For every row the learning rate with the best mean standardised accuracy over all seeds, on test videos: rows that may choose, which
    are baselines, are flattered by it."""
    found: dict[str, dict[float, list[float]]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.job.row, {}).setdefault(outcome.job.learning_rate, []).append(outcome.action)
    return {row: max(rates, key=lambda rate: mean(rates[rate])) for row, rates in found.items()}


def summarise(outcomes: Sequence[Outcome], *, reference: str) -> dict[str, Any]:
    """Mean and deviation of every column for every row, and `reference` against each other row, paired by data and student seed.

    `p` is that of a paired t-test, `holm` the same after Holm's correction over all rows of a column.
    """
    rates = best_rates(outcomes)
    kept: dict[str, dict[tuple[str, int], Outcome]] = {}
    for outcome in outcomes:
        if outcome.job.learning_rate == rates[outcome.job.row]:
            kept.setdefault(outcome.job.row, {})[outcome.job.data, outcome.job.seed] = outcome
    table: dict[str, Any] = {}
    for row, runs in kept.items():
        columns = next(iter(runs.values())).scores
        trained = next(iter(runs.values())).training_loss is not None
        table[row] = {"learning rate": rates[row] if trained else None, "runs": len(runs)}
        for column in columns:
            values = [run.scores[column] for run in runs.values()]
            cell = {"mean": mean(values), "std": stdev(values) if len(values) > 1 else 0.0}
            ours = kept[reference]
            if row != reference and column in next(iter(ours.values())).scores:
                gains = [ours[key].scores[column] - run.scores[column] for key, run in runs.items()]
                cell["gain"] = mean(gains)
                p = paired_t([ours[key].scores[column] for key in runs], values)
                if p is not None:
                    cell["p"] = p
            table[row][column] = cell
        held = [run.held_out for run in runs.values() if run.held_out is not None]
        if held:
            table[row]["held out"] = {name: mean(getattr(loss, name) for loss in held) for name in ("student", "constant", "position")}
    for column in next(iter(kept[reference].values())).scores:
        for row, p in holm({row: cells[column]["p"] for row, cells in table.items() if "p" in cells.get(column, {})}).items():
            table[row][column]["holm"] = p
    return table


def describe_budget(budget: Budget) -> str:
    """What every row has in common, in a line or two."""
    clips, head = budget.clips, budget.head
    lines = [
        f"{budget.encoder.name} {budget.encoder.size}, clips of {clips.num_frames} frames (every {clips.stride}.) x {clips.num_points} "
        f"points, {budget.num_epochs} epochs of {budget.clips_per_sequence} clips a sequence, protocol {budget.protocol}",
        f"linear head: {head.optimizer}, rate {head.learning_rate:g}, {head.num_epochs} epochs, {budget.num_windows} windows a video",
    ]
    if (tuning := budget.finetune) is not None:
        rate = f"AdamW, rate {tuning.learning_rate:g}, {tuning.num_epochs} epochs"
        lines.append(f"fine-tuning: {rate}, {tuning.fraction:.0%} of the labels, at least one of each action")
    return "\n".join(lines)


def describe(table: Mapping[str, Any], *, reference: str) -> str:
    """Two Markdown tables: scores with held-out losses, and what `reference` gains over each row."""
    columns = [name for name, cell in table[reference].items() if isinstance(cell, dict) and "mean" in cell]
    lines = [
        f"| | {' | '.join(columns)} | loss: student / constant / position | rate |",
        f"|---|{'---|' * (len(columns) + 2)}",
    ]
    for row, cells in table.items():
        scores = [f"{cells[name]['mean']:.3f} +- {cells[name]['std']:.3f}" if name in cells else "" for name in columns]
        held = cells.get("held out")
        losses = f"{held['student']:.3f} / {held['constant']:.3f} / {held['position']:.3f}" if held else ""
        rate = cells["learning rate"]
        lines.append(f"| {row} | {' | '.join(scores)} | {losses} | {'' if rate is None else f'{rate:g}'} |")
    lines += ["", f"| {reference} minus ... (p, paired t-test; after Holm) | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for row, cells in table.items():
        if row != reference:
            lines.append(f"| {row} | {' | '.join(_gain(cells.get(name, {})) for name in columns)} |")
    return "\n".join(lines)


def _gain(cell: Mapping[str, float]) -> str:
    if "gain" not in cell:
        return ""
    tested = f" ({_share(cell['p'])}; {_share(cell['holm'])})" if "holm" in cell else ""
    return f"{cell['gain']:+.3f}{tested}"


def _share(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}"


def report(outcomes: Sequence[Outcome], *, reference: str, seconds: float) -> dict[str, Any]:
    """Everything to write down: the table, every run, and where it was measured."""
    return {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        "minutes": round(seconds / 60, 1),
        "reference": reference,
        "budget": outcomes[0].job.budget.model_dump(mode="json"),
        "table": summarise(outcomes, reference=reference),
        "runs": [outcome.model_dump(mode="json", exclude={"job": {"store", "budget"}}) for outcome in outcomes],
    }
