"""Many damaged files for every reader, each in a process that may neither crash, nor hang, nor take much memory.

    python -m tests.cross4d_cache.datasets.soak --count 3000

prints one line a format, and every mutation that a reader did not take well; with such a one it ends with exit code 1.
"""

import argparse
import json
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType

import numpy as np

from cross4d_cache.datasets import open_dataset
from cross4d_cache.errors import DatasetError
from tests.cross4d_cache.datasets.examples.all_examples import EXAMPLES
from tests.cross4d_cache.datasets.examples.example import Example
from tests.cross4d_cache.datasets.mutation import mutate

SECONDS = 5.0
"""The longest that a damaged file may keep a reader busy."""

MEMORY = 2**30
"""The most that a reader may allocate, bytes."""


@dataclass
class Tally:
    """How the mutations of one format went; `failures` are the ones that did anything but read or refuse."""

    example: str
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def soak(example: Example, count: int, seed: int = 0, seconds: float = SECONDS) -> Tally:
    """Mutations 0 to `count` of an example, in child processes; one that dies or hangs is replaced."""
    tally, number = Tally(example.name), 0
    while number < count:
        number = _watch(tally, example, number, count, seed, seconds)
    return tally


def _watch(tally: Tally, example: Example, first: int, count: int, seed: int, seconds: float) -> int:
    """Follow one child until it is done, dies or hangs; gives the number to go on with."""
    command = [sys.executable, "-W", "error", "-m", __spec__.name, "--child", json.dumps([example.name, first, count, seed])]
    with tempfile.TemporaryFile() as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as child:
        assert child.stdout is not None
        lines: queue.Queue[str] = queue.Queue()
        follower = threading.Thread(target=_forward, args=(child.stdout, lines), daemon=True)
        follower.start()
        done, patience = first, 120.0  # the first line waits for imports
        while True:
            try:
                line = lines.get(timeout=patience)
            except queue.Empty:
                child.kill()
                tally.failures.append(f"{example.name} {done}: no answer within {seconds} s")
                tally.outcomes["hang"] += 1
                return done + 1
            if not line:
                break
            patience = seconds
            if line.startswith("ready"):
                continue
            outcome, _, detail = line.rstrip("\n").partition(" ")
            tally.outcomes[outcome] += 1
            if outcome not in ("read", "refused"):
                tally.failures.append(f"{example.name} {done}: {outcome} {detail}")
            done += 1
        if done < count:
            child.wait()
            errors.seek(0)
            last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
            tally.failures.append(f"{example.name} {done}: the process ended with {child.returncode} {last}")
            tally.outcomes["crash"] += 1
            return done + 1
        return count


def _forward(stream: Iterator[str], lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _child(example: Example, first: int, count: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        example.write(root)
        _read_all(example, root)  # what reading needs is imported and allocated before memory is limited
        limit = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        files = sorted(path for path in root.rglob("*") if path.is_file())
        mischief = compile(os.environ.get("CROSS4D_SOAK_MISCHIEF", ""), "mischief", "exec")  # for the test of this very harness
        print("ready", flush=True)
        for number in range(first, count):
            rng = np.random.default_rng([seed, number])
            path = files[rng.integers(len(files))]
            intact = path.read_bytes()
            path.write_bytes(mutate(path, rng))
            print(_outcome(example, root, path, mischief), flush=True)
            path.write_bytes(intact)


def _outcome(example: Example, root: Path, damaged: Path, mischief: CodeType) -> str:
    try:
        exec(mischief, {"os": os, "time": time})
        _read_all(example, root)
    except DatasetError as error:
        names = damaged.relative_to(root).parts
        named = any(name in str(error) or Path(name).stem in str(error) for name in names)
        return "refused" if named else f"unnamed {str(error).splitlines()[0]}"
    except BaseException as error:
        return f"raised {type(error).__name__}: {str(error).splitlines()[:1]} for {damaged.name}"
    return "read"


def _read_all(example: Example, root: Path) -> None:
    dataset = open_dataset(example.dataset, root, dict(example.options))
    for info in dataset.sequences():
        dataset.read(info)


def main() -> None:
    """Soak all formats, or those whose name begins as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3000, help="mutations of every format")
    parser.add_argument("--only", default="", help="formats whose name begins so")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    by_name = {example.name: example for example in EXAMPLES}
    if args.child:
        name, first, count, seed = json.loads(args.child)
        _child(by_name[name], first, count, seed)
        return
    failed = False
    for example in EXAMPLES:
        if example.name.startswith(args.only):
            tally = soak(example, args.count)
            print(f"{example.name:40} {dict(sorted(tally.outcomes.items()))}", *tally.failures, sep="\n    ", flush=True)
            failed = failed or bool(tally.failures)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
