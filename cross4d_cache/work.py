"""Long work as a generator: it yields how far it is and what a user should know, and returns its record. It knows no console.

A command follows it with progress (`cross4d_cache.console.follow`); a notebook, a recipe or another process calls `finish`.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from cross4d_cache.record import Record, newer_note

Result = TypeVar("Result")
Advice = Callable[[float], str]
"""From the seconds that are left, what follows `about 14 h`: where that is, and what is faster."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of work: `total` units, None if the end is not known, of which `initial` were done by earlier runs.

    `delay` are seconds that nothing needs to be shown for; `advice` is for work that turns out to take long.
    """

    name: str
    unit: str
    total: int | None = None
    initial: int = 0
    delay: float = 0.0
    advice: Advice | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """How many units of a stage are done, those of earlier runs included, and a few words on how it goes."""

    stage: Stage
    done: int
    note: str = ""


@dataclass(frozen=True)
class Remark:
    """A line for the user. Settings stand in backquotes, as in errors."""

    text: str


Work = Generator[Step | Remark, None, Result]


def steps(stage: Stage, counts: Iterable[int | tuple[int, str]]) -> Work[int]:
    """The steps of a stage from what a library's generator counts, with or without a note; returns the last count."""
    last = stage.initial
    yield Step(stage=stage, done=last)
    for count in counts:
        last, note = count if isinstance(count, tuple) else (count, "")
        yield Step(stage=stage, done=last, note=note)
    return last


def newer(record: Record, what: str) -> Iterator[Remark]:
    """Which fields of a newer release this one keeps in a record of `what` and does not understand."""
    note = newer_note(record, what)
    if note is not None:
        yield Remark(note)


def finish(work: Work[Result]) -> Result:
    """All of the work, in silence; its record."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: Result = end.value
            return result
