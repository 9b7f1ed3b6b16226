"""The long tests: kills, strays, errors of reading, damage, hostile input. What the default tests do a few times.

    python -m tests.soak [--count 100] [--looks 100] [--damage 1000] [--fuzz 10000] [--json FILE]

`--count` kills of each job, `--looks` runs of each job among strays and errors of reading, `--damage` flipped bits and truncations over
all files of a store, `--fuzz` damaged manifests and as many damaged zips and checkpoints.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cross4d_cache.progress import progress
from tests.cross4d_cache.store.store_examples import two_parts, write_store
from tests.cross4d_cache.store.test_hostile import check_damage, damage_manifest, damage_zip, outcome_of_manifest, outcome_of_zip, zipped
from tests.cross4d_train import test_checkpoint
from tests.cross4d_train.test_checkpoint import damage_checkpoint, outcome_of_checkpoint
from tests.soak.kills import JOBS, bench, soak
from tests.soak.looks import soak_looks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--looks", type=int, default=100)
    parser.add_argument("--damage", type=int, default=1000)
    parser.add_argument("--fuzz", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    began, found = time.perf_counter(), dict[str, Any]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.count:
            found["kills"] = kills(folder, arguments.count, arguments.seed)
        store = write_store(folder / "store.zarr", two_parts())
        if arguments.looks:
            found["looks"] = asdict(soak_looks(store, folder / "looks", arguments.looks, arguments.seed))
        if arguments.damage:
            found["damage"] = damage(store, arguments.damage, arguments.seed)
        if arguments.fuzz:
            found["fuzz"] = fuzz(store, folder, arguments.fuzz, arguments.seed)
    found["minutes"] = round((time.perf_counter() - began) / 60, 1)
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


def kills(folder: Path, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` kills of every job."""
    made = Fixtures(folder / "fixtures")
    with bench(folder, made.msr_folder, made.tiny_vit) as driver:
        return [asdict(soak(driver, job, count, folder / job, seed)) for job, _ in progress(JOBS, total=len(JOBS), unit="job")]


def damage(store: Path, count: int, seed: int) -> dict[str, int]:
    """At least `count` damages over all files of a store."""
    num_files = sum(path.is_file() for path in store.rglob("*"))
    return check_damage(store, per_file=-(-count // num_files), seed=seed)


def fuzz(store: Path, folder: Path, count: int, seed: int) -> dict[str, dict[str, int]]:
    """Outcomes of `count` damaged manifests, zips and checkpoints: read, or refused by one of our errors; anything else raises."""
    rng, found = np.random.default_rng(seed), {name: Counter[str]() for name in ("manifest", "zip", "checkpoint")}
    run = write_checkpoint(folder / "run.safetensors")
    whole = zipped(store, folder / "store.zip")
    text = (store / "zarr.json").read_bytes()
    (folder / "manifest").mkdir()
    for _ in progress(range(count), total=count, unit="case"):
        found["manifest"][outcome_of_manifest(damage_manifest(text, rng), folder / "manifest", store)] += 1
        found["checkpoint"][outcome_of_checkpoint(damage_checkpoint(run, rng), folder / "damaged.safetensors")] += 1
        found["zip"][outcome_of_zip(damage_zip(whole, rng), folder / "store.zip", store)] += 1
    return {name: dict(counts) for name, counts in found.items()}


def write_checkpoint(path: Path) -> bytes:
    """A checkpoint of a tiny encoder, as the tests have it."""
    unwrapped(test_checkpoint.checkpoint)().save(path)
    return path.read_bytes()


class Fixtures:
    """The tests' own raw data and teacher, made outside of pytest."""

    def __init__(self, folder: Path) -> None:
        from tests import conftest

        class Places:
            def mktemp(self, name: str) -> Path:
                (folder / name).mkdir(parents=True)
                return folder / name

        places: Any = Places()
        self.msr_folder: Path = unwrapped(conftest.msr_folder)(places)
        self.tiny_vit: Path = unwrapped(conftest.tiny_vit)(places)


def unwrapped(fixture: Any) -> Any:
    """The function behind a fixture."""
    return fixture._get_wrapped_function() if hasattr(fixture, "_get_wrapped_function") else fixture.__wrapped__


if __name__ == "__main__":
    main()
