"""The counter of the interpreter lock counts what is known by hand, and its command what a build does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3]

COUNT = """
import hashlib, json, sys, time
from pipelines.benchmarks.interpreter_lock import counting
counts = {}
data = bytes(10_000)
hashlib.sha256(data).digest()
with counting(counts):
    for _ in range(50):
        hashlib.sha256(data).digest()  # gives the lock away once
idle = {}
with counting(idle):
    begin = time.process_time()
    while time.process_time() - begin < 0.2:
        pass
    hashlib.sha256(data).digest()
print(json.dumps([counts, idle]))
"""


@pytest.fixture
def counter(tmp_path: Path) -> dict[str, str]:
    """An environment with the counter before libpython's functions."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    library, source = tmp_path / "counter.so", FOLDER / "pipelines/benchmarks/interpreter_lock.c"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return {**os.environ, "LD_PRELOAD": str(library), "CROSS4D_COUNTER": str(library)}


def test_what_is_counted_is_what_happens(counter: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", COUNT], cwd=FOLDER, env=counter, capture_output=True, text=True, check=True)
    hashing, computing = json.loads(done.stdout)
    if not hashing["given"]:
        pytest.skip("this Python calls its own functions directly")
    assert 50 <= hashing["given"] < 60
    assert hashing["held_ms"] < 20
    assert 150 < computing["held_ms"] < 400
    assert computing["cpu_ms"] > 150


def test_commands_count_reading_and_writing(small_store: Path, msr_folder: Path, counter: dict[str, str], tmp_path: Path) -> None:
    for words in (["read", "msr_action3d", "--data", str(msr_folder), "--workers", "1"], ["write", str(small_store)]):
        report = tmp_path / f"{words[0]}.json"
        command = [sys.executable, "-m", "pipelines.benchmarks.interpreter_lock", *words, "--json", str(report)]
        done = subprocess.run(command, cwd=FOLDER, env=counter, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout)
        assert row["frames"] == 35
        assert row["held_ms"] >= 0
        assert json.loads(report.read_text()).items() >= row.items()
