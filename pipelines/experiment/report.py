"""Tables for people (Markdown), for machines (JSON), and as pictures (PNG)."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from pipelines.experiment.table import Finished, Found
from pipelines.paper.published import UNKNOWN_TABLES


def markdown(finished: Finished) -> str:
    """The table, ours beside the paper's, then the tests."""
    table = finished.table
    lines = [f"## {table.heading}", ""]
    lines += [f"| | {' | '.join(table.columns)} |", f"|---|{'---|' * len(table.columns)}"]
    for row in table.rows:
        cells = [_cell(finished.found.get((row, column))) for column in table.columns]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    if table.note:
        lines += ["", table.note]
    if finished.differences:
        lines += [
            "",
            "Gain [95 % interval over videos]; p of the paired t-test over seeds, after Holm's correction over "
            f"{'each column' if table.by_column else 'this table'}; p of McNemar's "
            "test over videos and seeds. A difference is called one if p after Holm is below .05 and the interval does not hold 0.",
            "",
            "| | column | gain | t-test | after Holm | McNemar | |",
            "|---|---|---|---|---|---|---|",
        ]
        for item in finished.differences:
            (row, column), (other, against) = item.ours, item.theirs
            rows, columns = (
                (row if row == other else f"{row} minus {other}"),
                (column if column == against else f"{column} minus {against}"),
            )
            interval = "" if item.interval is None else f" [{item.interval[0]:+.3f}, {item.interval[1]:+.3f}]"
            tests = " | ".join(_share(p) for p in (item.p, item.holm, item.mcnemar))
            lines.append(f"| {rows} | {columns} | {item.gain:+.3f}{interval} | {tests} | {item.verdict} |")
    return "\n".join(lines) + "\n"


def _cell(found: Found | None) -> str:
    if found is None:
        return ""
    text = f"{found.spread.mean:.3f} ± {found.spread.std:.3f}"
    if found.interval is not None:
        text += f" [{found.interval[0]:.2f}, {found.interval[1]:.2f}]"
    if found.published is None:
        return text
    return f"{text} (paper {found.published:.3f}: {found.difference:+.3f}, {'within' if found.reproduced else 'outside'} .03)"


def _share(p: float | None) -> str:
    return "" if p is None else "<.001" if p < 0.001 else f"{p:.3f}"


def record(finished: Finished) -> dict[str, Any]:
    """The table for machines."""
    cells = {
        row: {
            column: {
                **found.spread.model_dump(),
                "interval_over_videos": found.interval,
                "published": found.published,
                "difference": found.difference,
                "reproduced": found.reproduced,
            }
            for column in finished.table.columns
            if (found := finished.found.get((row, column))) is not None
        }
        for row in finished.table.rows
    }
    tests = [{**vars(item), "verdict": item.verdict} for item in finished.differences]
    return {
        "number": finished.table.number,
        "heading": finished.table.heading,
        "cells": cells,
        "reference": finished.table.reference,
        "tests": tests,
    }


def draw(finished: Finished, path: Path) -> None:
    """Bars with the deviation over seeds, the paper's numbers as marks."""
    table = finished.table
    rows = list(table.rows)
    width = 0.8 / len(table.columns)
    figure, axis = plt.subplots(figsize=(9, 0.6 + 0.22 * len(rows) * max(2, len(table.columns))))
    for number, column in enumerate(table.columns):
        known = [(place, finished.found[row, column]) for place, row in enumerate(rows) if (row, column) in finished.found]
        heights = np.array([place for place, _ in known]) + width * (number - (len(table.columns) - 1) / 2)
        values = [found.spread.mean for _, found in known]
        axis.barh(heights, values, width, xerr=[found.spread.std for _, found in known], label=column, error_kw={"lw": 1, "capsize": 2})
        printed = [(height, found.published) for height, (_, found) in zip(heights, known, strict=True) if found.published is not None]
        if printed:
            axis.plot([value for _, value in printed], [height for height, _ in printed], "k|", markersize=9, markeredgewidth=2)
    axis.set_yticks(range(len(rows)), rows)
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    axis.set_title(table.heading, fontsize=10)
    if len(table.columns) > 1:
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
    axis.set_xlabel("mean over seeds; whiskers: standard deviation; black marks: the paper", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def unknown_tables() -> str:
    """What is not there, and why."""
    return f"Tables {', '.join(map(str, UNKNOWN_TABLES))} of the paper are not here: what they show is not known to this project.\n"
