"""How far long work is, told on stderr: a bar on a terminal, one line a minute elsewhere, and once how long all of it will take.

Commands and recipes show progress with this and with nothing else; the library only yields it.
"""

import sys
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any, TypeVar

from tqdm import tqdm

from cross4d_cache.work import Advice, Stage

LINE_SECONDS = 60.0
"""Seconds between two lines where stderr is no terminal."""
MEASURED_SECONDS = 5.0
"""Seconds of steps after the first one that an estimate of the whole is made from; the first one warms up."""
LONG_SECONDS = 600.0
"""Work that takes longer than this says so after its first steps."""
LINE = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"

Item = TypeVar("Item")


class Progress:
    """Progress of one piece of work; `note` stands beside it from the next move on.

    Args:
        total: steps of the whole work, None if they are not known.
        initial: steps that were done before.
        quiet: show nothing but the estimate.
        delay: seconds of work that nothing is shown for.
        advice: completes the line about long work; without it there is none.
    """

    def __init__(
        self,
        *,
        total: int | None,
        unit: str,
        desc: str = "",
        initial: int = 0,
        quiet: bool = False,
        delay: float = 0.0,
        advice: Advice | None = None,
    ) -> None:
        self.total, self.unit, self.desc, self.initial, self.done, self.note = total, unit, desc, initial, initial, ""
        self._delay, self._advice, self._said = delay, advice, initial
        self._begun = self._told = monotonic()
        self._first: tuple[int, float] | None = None
        self._lines = not quiet and not sys.stderr.isatty()
        self._bar: tqdm[Any] | None = None
        if not quiet and not self._lines:
            self._bar = tqdm(
                total=total,
                unit=unit,
                desc=desc or None,
                initial=initial,
                delay=delay,
                file=sys.stderr,
                unit_scale=unit == "B",
                dynamic_ncols=True,
            )

    @classmethod
    def of(cls, stage: Stage, *, quiet: bool) -> "Progress":
        """Progress of a stage of work."""
        return cls(
            total=stage.total,
            unit=stage.unit,
            desc=stage.name,
            initial=stage.initial,
            quiet=quiet,
            delay=stage.delay,
            advice=stage.advice,
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the bar, or print the last line."""
        if self._bar is not None:
            self._bar.close()
        elif self._lines and self.done > self._said and monotonic() - self._begun >= self._delay:
            self._print_line()

    def move(self, done: int) -> None:
        """Say that `done` steps are behind, those before included."""
        self.done = done
        if self._bar is not None:
            self._bar.set_postfix_str(self.note, refresh=False)
            self._bar.update(done - self._bar.n)
        elif self._lines and monotonic() - self._told >= LINE_SECONDS:
            self._told = monotonic()
            self._print_line()
        if self._advice is not None and self.total is not None and done > self.initial:
            self._estimate(self._advice, self.total)

    def _estimate(self, advice: Advice, total: int) -> None:
        """Say once about how long the rest of long work takes, as soon as it can be told."""
        now = monotonic()
        if self._first is None:
            self._first = self.done, now
        first, begun = self._first
        if self.done == first or now - begun < MEASURED_SECONDS:
            return
        self._advice = None
        left = (now - begun) / (self.done - first) * (total - self.done)
        if left > LONG_SECONDS:
            self.say(f"about {duration(left)}{advice(left)}")

    def _print_line(self) -> None:
        """The line that tqdm would draw, without its bar."""
        line = tqdm.format_meter(
            n=self.done,
            total=self.total,  # type: ignore[arg-type]  # the stub knows no None
            elapsed=monotonic() - self._begun,
            prefix=self.desc,
            unit=self.unit,
            unit_scale=self.unit == "B",
            postfix=self.note,
            initial=self.initial,
            bar_format=LINE if self.total else None,
        )
        self._said = self.done
        self.say(line.removeprefix(": "))

    def say(self, line: str) -> None:
        """A line above the bar, if there is one."""
        if self._bar is not None:
            tqdm.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)


def progress(
    items: Iterable[Item],
    *,
    total: int | None,
    unit: str,
    desc: str = "",
    initial: int = 0,
    quiet: bool = False,
    advice: Advice | None = None,
) -> Iterator[tuple[Item, Progress]]:
    """Items, each of which is a step of the work that is done when the next one is asked for; `Progress` comes along for its note."""
    with Progress(total=total, unit=unit, desc=desc, initial=initial, quiet=quiet, advice=advice) as shown:
        for item in items:
            yield item, shown
            shown.move(shown.done + 1)


def duration(seconds: float) -> str:
    """A length of time, roughly: `25 min`, `14 h`, `3 days`."""
    minutes = seconds / 60
    if minutes < 90:
        return f"{max(1, round(minutes))} min"
    return f"{round(minutes / 60)} h" if minutes < 48 * 60 else f"{round(minutes / 60 / 24)} days"
