"""Progress on a terminal and elsewhere, and the line about how long work takes; the clock is ours."""

import io
import sys
from pathlib import Path

import pytest

import cross4d_cache
import cross4d_train
from cross4d_cache import progress
from cross4d_cache.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its only entry is the time, seconds."""
    now = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    return now


def shown(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, steps: int, seconds: float, file: io.StringIO | None = None, **options: object
) -> list[str]:
    """What stderr gets of some steps of a work of 1000."""
    monkeypatch.setattr(sys, "stderr", file or io.StringIO())
    with Progress(**{"total": 1000, "unit": "step", **options}) as work:  # type: ignore[arg-type]
        for done in range(1, steps + 1):
            clock[0] += seconds
            work.note = f"loss={done}"
            work.move(done)
    return sys.stderr.getvalue().splitlines()  # type: ignore[attr-defined]


def test_without_a_terminal_there_is_a_line_a_minute(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(clock, monkeypatch, steps=650, seconds=0.5, desc="build")
    assert len(lines) == 6, "five minutes and the end"
    assert lines[0].startswith("build:  12% 120/1000 [01:00<07:20,  2.00step/s, loss=120]")
    assert lines[-1].startswith("build:  65% 650/1000 [05:25<02:55,  2.00step/s, loss=650]")
    assert not any("\r" in line for line in lines)


def test_work_that_begins_further_on_says_so(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Progress(total=100, unit="step", initial=90) as work:
        clock[0] += 60
        work.move(96)
    assert sys.stderr.getvalue() == " 96% 96/100 [01:00<00:40, 10.00s/step]\n"  # type: ignore[attr-defined]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress(total=2, unit="step", desc="build") as work:
        work.move(1)
        work.move(2)
    text = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "\rbuild: 100%|" in text


@pytest.mark.parametrize("file", [io.StringIO, Terminal])
def test_quiet_shows_nothing_but_the_estimate(clock: list[float], monkeypatch: pytest.MonkeyPatch, file: type[io.StringIO]) -> None:
    assert shown(clock, monkeypatch, steps=10, seconds=50, file=file(), quiet=True) == []
    told = shown(clock, monkeypatch, steps=10, seconds=50, file=file(), quiet=True, advice=lambda seconds: f" of {seconds:.0f} s")
    assert told == ["about 14 h of 49900 s"]


def test_long_work_says_once_how_long_after_its_first_steps(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step, which warms up, does not count."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Progress(total=1000, unit="step", advice=lambda seconds: " here") as work:
        work.move(0)  # as a build does, which says where it begins
        for seconds in (100, 2, 2, 2):
            clock[0] += seconds
            work.move(work.done + 1)
    assert "about 33 min here\n" in sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert not any("about" in line for line in shown(clock, monkeypatch, steps=1000, seconds=0.5, advice=lambda seconds: " here"))


def test_work_of_no_known_end_is_shown_only_if_it_takes_long(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = {"total": None, "unit": "sequence", "desc": "listing", "delay": 2.0}
    assert shown(clock, monkeypatch, steps=3, seconds=0.5, **unknown) == []
    [line] = shown(clock, monkeypatch, steps=5, seconds=0.5, **unknown)
    assert line.startswith("listing: 5sequence [00:02")


def test_nothing_else_draws_bars() -> None:
    folders = [Path(package.__file__).parent for package in (cross4d_cache, cross4d_train)]
    drawing = {path.name for folder in folders for path in folder.rglob("*.py") if "tqdm" in path.read_text()}
    assert drawing == {"progress.py"}


@pytest.mark.parametrize(("seconds", "text"), [(20.0, "1 min"), (1500.0, "25 min"), (14 * 3600.0, "14 h"), (3 * 86400.0, "3 days")])
def test_durations_are_rough(seconds: float, text: str) -> None:
    assert duration(seconds) == text
