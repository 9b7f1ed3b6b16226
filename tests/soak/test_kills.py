"""A few kills of every job; `python -m tests.soak` does a hundred."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.driver import Driver
from tests.soak.kills import JOBS, bench, check_reader, outcome, soak

SHORT = ("merge", "subset", "derive", "pack", "pull")
"""Jobs that may end before a kill comes."""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory, msr_folder: Path, tiny_vit: Path) -> Iterator[Driver]:
    with bench(tmp_path_factory.mktemp("bench"), msr_folder, tiny_vit) as driver:
        yield driver


@pytest.mark.parametrize("job", JOBS)
def test_kills_change_nothing(driver: Driver, tmp_path: Path, job: str) -> None:
    """Short jobs are killed more often: many a kill comes when they have ended, by chance all of them."""
    count = 10 if job in SHORT else 4
    found = soak(driver, job, count, tmp_path)
    assert found.kills == count
    assert found.at_work > 0 or job in SHORT  # which the next test kills at work
    assert found.compared >= 1


@pytest.mark.parametrize("job", SHORT)
def test_killed_at_each_of_its_first_files_it_goes_on(driver: Driver, tmp_path: Path, job: str) -> None:
    """Random instants seldom meet the moment when a folder has been made and does not yet say what it is."""
    driver.finish(job, tmp_path / "whole")
    expected = outcome(job, tmp_path / "whole")
    for event in range(1, 8):
        out = tmp_path / "out"
        [[code, _]] = driver.run(job, out, kill_at=event)
        if code == 0:  # it does no more
            assert event > 5
            break
        assert code == -signal.SIGKILL
        check_reader(job, out)
        driver.finish(job, out)
        assert outcome(job, out) == expected
        shutil.rmtree(out)
