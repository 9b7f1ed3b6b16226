"""Commands that make stores and runs, killed at random instants and begun again, against what nobody interrupted."""

import json
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cross4d_cache.errors import CacheIncompleteError
from cross4d_cache.store import open_cache, verify
from cross4d_cache.store.manifest import METADATA_FILE
from tests.cross4d_cache.store.store_examples import make_part, write_store
from tests.servers.liar import Server
from tests.soak.driver import Driver

JOBS = ("build", "merge", "subset", "derive", "pack", "pull", "train", "train-with-worker")


@dataclass(kw_only=True)
class Kills:
    """What became of one job: kills, of which how many met it at work, and how often it was run to its end and compared."""

    job: str
    kills: int = 0
    at_work: int = 0
    compared: int = 0


@contextmanager
def bench(folder: Path, msr_folder: Path, weights: Path) -> Iterator[Driver]:
    """A driver with all that the jobs need: raw data, a teacher, two stores, one of them served."""
    contents = [make_part([[300, 200], [100] * 5, [50]], seed=number, first_id=3 * number) for number in range(6)]
    stores = [write_store(folder / "a.zarr", contents[:4]), write_store(folder / "b.zarr", contents[4:])]
    server = Server(folder)
    driver = Driver(weights=str(weights), data=str(msr_folder), stores=list(map(str, stores)), url=f"{server.url}/a.zarr")
    try:
        yield driver
    finally:
        driver.close()
        server.close()


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def outcome(job: str, out: Path) -> object:
    """What must not depend on interruptions: bytes of stores and archives, losses step by step and final weights of runs."""
    if not job.startswith("train"):
        return files(out)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines], (out / "checkpoint.safetensors").read_bytes()


def check_reader(job: str, out: Path) -> None:
    """What a reader may find after a kill: no store, an unfinished one that says so, or a whole one."""
    place = out / "store.zip" if job == "pack" else out
    if not (place if job == "pack" else out / METADATA_FILE).exists():
        return
    try:
        cache = open_cache(place)
    except CacheIncompleteError:
        return
    assert [problem for check in verify(cache) for problem in check.problems] == []


def soak(driver: Driver, job: str, count: int, folder: Path, seed: int = 0) -> Kills:
    """Kill a job `count` times, a few times each before it may end, and compare every end with the uninterrupted one."""
    rng, found = np.random.default_rng(seed), Kills(job=job)
    driver.finish(job, folder / "whole")  # the first request waits for the driver to start
    shutil.rmtree(folder / "whole")
    began = time.perf_counter()
    driver.finish(job, folder / "whole")
    seconds = time.perf_counter() - began
    expected = outcome(job, folder / "whole")
    while found.kills < count:
        out = folder / "out"
        for _ in range(min(int(rng.integers(1, 5)), count - found.kills)):
            [[code, _]] = driver.run(job, out, kill_after=float(rng.uniform(0, seconds)))
            assert code in (0, -signal.SIGKILL), code
            found.kills += 1
            found.at_work += code != 0
            if not job.startswith("train") and out.exists():
                check_reader(job, out)
        driver.finish(job, out)
        assert outcome(job, out) == expected
        found.compared += 1
        shutil.rmtree(out)
    shutil.rmtree(folder / "whole")
    return found
