"""Worker processes: they answer in order, die alone, are told about, and never outlive the process they work for."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cross4d_cache import workers
from cross4d_cache.errors import CacheError, WorkerError
from cross4d_cache.workers import Workers


def get(answer: object) -> object:
    return answer


@contextmanager
def two_workers() -> Iterator[Workers[str, object]]:
    pool: Workers[str, object] = Workers(eval, 2, get)
    yield pool
    for worker in pool._workers:
        worker._process.kill()


@pytest.fixture(scope="module")
def two() -> Iterator[Workers[str, object]]:
    """For tests that leave them as they were: to start them takes two seconds."""
    with two_workers() as pool:
        yield pool


@pytest.fixture
def doomed() -> Iterator[Workers[str, object]]:
    with two_workers() as pool:
        yield pool


def pids(pool: Workers[str, object]) -> list[int]:
    return [worker._process.pid for worker in pool._workers]


def test_answers_come_in_order_and_from_all(two):
    assert list(two.map(f"{number} ** 2" for number in range(20))) == [number**2 for number in range(20)]
    assert list(two.map(["__import__('os').getpid()"] * 4)) == pids(two) * 2
    assert list(two.map([])) == []


def test_what_was_made_ahead_for_nobody_is_not_taken_for_something_else(two):
    assert next(two.map(f"'old {number}'" for number in range(9))) == "old 0"
    assert list(two.map(f"'new {number}'" for number in range(3))) == ["new 0", "new 1", "new 2"]


def test_what_a_library_prints_is_no_answer(capfd):
    pool: Workers[str, object] = Workers(eval, 2, get)
    assert list(pool.map(["print('hello', flush=True) or 7", "__import__('os').system('echo more') or 8"])) == [7, 8]
    assert sorted(capfd.readouterr().err.split()) == ["hello", "more"]


def test_an_error_that_users_can_fix_arrives_as_it_is_and_any_other_with_its_traceback(two):
    wrong = "(_ for _ in ()).throw(__import__('cross4d_cache.errors').errors.CacheError('bad', hint='fix it'))"
    with pytest.raises(CacheError, match="bad\n  next: fix it"):
        list(two.map([wrong]))
    with pytest.raises(RuntimeError, match=r"(?s)in a worker process:.*ZeroDivisionError"):
        list(two.map(["1 / 0"]))
    assert list(two.map(["1 + 1"])) == [2]


@pytest.mark.parametrize("by", ["SIGTERM", "SIGHUP", "SIGINT", "SIGUSR1", "SIGUSR2"])
def test_signals_to_the_whole_job_are_the_matter_of_the_parent(two, by):
    assert list(two.map(["1", "2"])) == [1, 2]
    for pid in pids(two):
        os.kill(pid, getattr(signal, by))
    assert list(two.map(["3", "4"])) == [3, 4]


def test_one_that_is_killed_is_one_message(doomed):
    code = "__import__('os').kill(__import__('os').getpid(), 9)"
    for _ in range(2):  # and again: nobody waits for what cannot come
        told = r"(?s)\(pid \d+\) was killed.*memory.*next: use fewer `num_workers`, or more memory"
        with pytest.raises(WorkerError, match=told):
            list(doomed.map([code, "1", "2"]))


def test_one_that_gets_no_memory_is_one_message(two):
    with pytest.raises(WorkerError, match=r"(?s)got no more memory.*next: use fewer `num_workers`"):
        list(two.map(["b'x' * 10**16"]))
    assert list(two.map(["1"])) == [1]


def test_an_answer_that_cannot_be_received_is_no_reason_to_wait():
    pool: Workers[str, object] = Workers(eval, 1, lambda answer: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(pool.map(["1"]))
    pool._workers[0]._process.kill()
    with pytest.raises(WorkerError):
        list(pool.map(["1"]))


def test_one_that_is_killed_in_the_middle_of_an_answer_is_one_message():
    go_on = threading.Event()
    pool: Workers[str, object] = Workers(eval, 1, lambda answer: go_on.wait() and answer)
    answers = pool.map(["b'x' * 10**7"] * 2)
    threading.Timer(0.5, lambda: (os.kill(pids(pool)[0], signal.SIGKILL), go_on.set())).start()
    with pytest.raises(WorkerError, match="was killed"):
        list(answers)


def test_one_that_ends_otherwise_is_told_with_its_code(doomed):
    with pytest.raises(WorkerError, match=r"ended with exit code 3\n.*\n  next: .*`num_workers` 0"):
        list(doomed.map(["__import__('os')._exit(3)"]))


def test_one_that_never_answers_is_not_waited_for_for_ever(doomed, monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 1)
    monkeypatch.setenv("CROSS4D_WAIT_MINUTES", "0")
    with pytest.raises(WorkerError, match=r"(?s)has given no answer for .*next: .*disk or server"):
        list(doomed.map(["__import__('time').sleep(1000)"]))


def test_one_that_waits_for_a_server_is_not_stuck(two, monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 0)
    monkeypatch.setenv("CROSS4D_WAIT_MINUTES", "1")
    assert list(two.map(["__import__('time').sleep(1.5) or 7"])) == [7]


def test_they_end_with_their_pool_whatever_they_do():
    pool: Workers[str, object] = Workers(eval, 2, get)
    assert next(pool.map(["1", "__import__('time').sleep(1000)", "b'x' * 10**8"])) == 1
    processes = [worker._process for worker in pool._workers]
    del pool
    assert [process.returncode for process in processes] == [0, 0]


FEW_FILES = """
import os, resource
from tests.cross4d_cache.test_workers import Workers, get
used = {int(name) for name in os.listdir("/dev/fd")}
free = [number for number in range(1000) if number not in used]
resource.setrlimit(resource.RLIMIT_NOFILE, (free[MORE], resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
pool = Workers(eval, 4, get)
assert list(pool.map(["b'x' * 10**6"] * 20)) == [b"x" * 10**6] * 20
"""
"""A program that allows itself `MORE` more open files than it has, alone in its process: what runs beside a test opens some as well."""


def with_few_files(more: int) -> str:
    """What the program says at its end, nothing if it went well."""
    command = [sys.executable, "-c", FEW_FILES.replace("MORE", str(more))]
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=100, check=False).stderr


def test_few_open_files_are_enough():
    assert with_few_files(16) == ""


def test_too_few_open_files_are_one_message():
    last = with_few_files(4)[-1000:]
    assert re.search(r"(?s)WorkerError: cannot start a worker process: Too many open files.*next: use fewer `num_workers`", last)
