"""What the commands say: talk and progress on stderr, results on stdout."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from cross4d_cache.errors import printable, with_options
from cross4d_cache.progress import Progress
from cross4d_cache.record import Record
from cross4d_cache.store import Cache
from cross4d_cache.types import UNLABELLED
from cross4d_cache.work import Advice, Remark, Result, Stage, Work

MOST_BARS = 25
BAR = 50
"""Characters of the longest bar."""


def say(text: str) -> None:
    """One line for the user."""
    print(printable(text), file=sys.stderr)


def show(lines: Iterable[str], options: Mapping[str, str] | None = None) -> None:
    """Lines of a result. `options` are what settings are called here."""
    print("\n".join(printable(with_options(line, options or {})) for line in lines))


def print_result(result: dict[str, Any], as_json: bool, options: Mapping[str, str] | None = None) -> None:
    """The result: one JSON object, or aligned lines. `options` are what settings are called here."""
    if as_json:
        print(with_options(json.dumps(result), options or {}))
        return
    width = max(map(len, result))
    show(f"{key.replace('_', ' '):<{width}}  {_shown(value)}" for key, value in result.items())


def _shown(value: object) -> object:
    if not isinstance(value, dict):
        return value
    nested = any(isinstance(item, dict) for item in value.values())
    return ("; " if nested else ", ").join(f"{name}: {_shown(item)}" if nested else f"{name} {item}" for name, item in value.items())


def show_json(record: Record) -> None:
    """A result as one JSON object, with `\\u` in place of all that is not ASCII."""
    print(json.dumps(json.loads(record.model_dump_json())))


def print_overview(cache: Cache) -> None:
    """Bars: sequences by split and by action, and the share of points with a target."""
    names = cache.manifest.dataset.action_names
    for protocol in cache.manifest.dataset.protocols[:1]:
        print_bars(f"sequences, {protocol}", Counter(info.splits.get(protocol, "neither") for info in cache.sequences))
    actions = Counter(info.action for info in cache.sequences if info.action != UNLABELLED)
    shown = [(names[action] if action < len(names) else str(action), actions[action]) for action in sorted(actions)]
    if shown:
        print_bars(
            "sequences, action" + (f" (the first {MOST_BARS} of {len(shown)})" if len(shown) > MOST_BARS else ""), dict(shown[:MOST_BARS])
        )


def print_bars(title: str, counts: Mapping[str, int]) -> None:
    """Counts as bars of one common scale."""
    most, width = max(counts.values(), default=0), max(map(len, counts), default=0)
    show(["", title, *(f"  {name:<{width}}  {count:>7,}  {'#' * round(BAR * count / max(most, 1))}" for name, count in counts.items())])


def print_table(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Records of the same fields: one JSON list, or aligned columns."""
    if as_json:
        print(json.dumps(rows))
        return
    cells = [[name.replace("_", " ") for name in rows[0]]]
    cells += [["" if value is None else f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    show("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)


def follow(work: Work[Result], options: Mapping[str, str], *, quiet: bool = False) -> Result:
    """Do all of the work with its progress shown, say what it remarks, and return its record. `options`: what settings are called here."""
    stage: Stage | None = None
    shown: Progress | None = None
    try:
        while True:
            event = next(work)
            if isinstance(event, Remark):
                (say if shown is None else shown.say)(printable(with_options(event.text, options)))
                continue
            if shown is None or event.stage is not stage:
                if shown is not None:
                    shown.close()
                stage = event.stage
                shown = Progress.of(replace(stage, advice=_translated(stage.advice, options)), quiet=quiet)
            shown.note = event.note
            shown.move(event.done)
    except StopIteration as end:
        result: Result = end.value
        return result
    finally:
        if shown is not None:
            shown.close()
        work.close()


def _translated(advice: Advice | None, options: Mapping[str, str]) -> Advice | None:
    return None if advice is None else lambda seconds: with_options(advice(seconds), options)
