"""How fast stores go from hand to hand: pull against plain curl of the same bytes, and clips read from every place.

    python -m pipelines.benchmarks.sharing --store STORE [--clips 100] [--rounds 3] [--json FILE]

A real nginx serves the store and its zip on loopback (Debian: nginx-light). Every figure is the best of some rounds; curl takes the same
files, as many at a time, hashes nothing and flushes nothing.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cross4d_cache.errors import user_errors
from cross4d_cache.sharing.pack import Pack
from cross4d_cache.sharing.pull import Pull
from cross4d_cache.store import Cache, open_cache, verify
from cross4d_cache.store.storage.blobs import FOLDER
from cross4d_cache.store.storage.source import CONNECTIONS
from pipelines.benchmarks.machine import describe_machine
from pipelines.benchmarks.nginx import find_nginx, serve
from pipelines.report_file import report_file

FRAMES = 24


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="folder of a finished store")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=report_file)
    arguments = parser.parse_args()
    if find_nginx() is None:
        raise SystemExit("nginx is not installed (Debian: apt-get install nginx-light)")
    with user_errors(), tempfile.TemporaryDirectory(dir=arguments.store.absolute().parent) as name:
        found = measure(arguments.store.absolute(), Path(name), arguments.clips, arguments.rounds)
    text = json.dumps({"machine": describe_machine(torch.device("cpu")), **found}, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


def measure(store: Path, folder: Path, num_clips: int, rounds: int) -> dict[str, Any]:
    """Megabytes a second of copies, clips a second of readers."""
    root, logs = folder / "root", folder / "logs"
    for made in (root, logs):
        made.mkdir()
    (root / "store.zarr").symlink_to(store)
    archive = root / "store.zip"
    packed = best(lambda: list(Pack(open_cache(store), archive).run()), lambda: archive.unlink(missing_ok=True), rounds)
    names = [path.relative_to(store).as_posix() for path in sorted(store.rglob("*")) if path.is_file()]
    size = sum((store / name).stat().st_size for name in names) / 1e6
    copy = folder / "copy"
    pieces = folder / "pieces"
    os.environ[FOLDER] = str(pieces)

    def clean() -> None:
        shutil.rmtree(copy, ignore_errors=True)

    def forget() -> None:
        shutil.rmtree(pieces, ignore_errors=True)

    with serve(root, logs) as url:
        rates = {
            "curl": size / best(lambda: curl(f"{url}/store.zarr", names, copy), clean, rounds),
            "pull of a folder": size / best(lambda: list(Pull(f"{url}/store.zarr", copy).run()), clean, rounds),
            "pull of a zip": size / best(lambda: list(Pull(f"{url}/store.zip", copy).run()), clean, rounds),
            "pull from the disk": size / best(lambda: list(Pull(store, copy).run()), clean, rounds),
            "pack": size / packed,
            "verify": size / best(lambda: list(verify(open_cache(store))), clean, rounds),
        }
        served = {"served folder": f"{url}/store.zarr", "served zip": f"{url}/store.zip"}
        places = {"folder": str(store), "zip": str(archive), **served}
        clips = {name: num_clips / best(lambda place=place: read(place, num_clips), forget, rounds) for name, place in places.items()}  # type: ignore[misc]
        read(served["served folder"], num_clips)  # pieces of a zip are the same
        kept = {f"{name}, kept here": place for name, place in served.items()}
        clips |= {name: num_clips / best(lambda place=place: read(place, num_clips), clean, rounds) for name, place in kept.items()}  # type: ignore[misc]
    return {
        "megabytes": round(size, 1),
        "files": len(names),
        "megabytes_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "pull_to_curl": round(rates["pull of a folder"] / rates["curl"], 3),
        "clips_per_second": {name: round(rate, 1) for name, rate in clips.items()},
        "frames_of_a_clip": FRAMES,
    }


def best(work: Callable[[], object], clean: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest round; every round begins anew."""
    fastest = float("inf")
    for _ in range(rounds):
        clean()
        began = time.perf_counter()
        work()
        fastest = min(fastest, time.perf_counter() - began)
    return fastest


def curl(url: str, names: list[str], out: Path) -> None:
    """All files, as many at a time as `pull` takes."""
    lines = "".join(f'url = "{url}/{name}"\noutput = "{out / name}"\n' for name in names)
    command = ["curl", "--silent", "--fail", "--create-dirs", "--parallel", "--parallel-max", str(CONNECTIONS), "--config", "-"]
    subprocess.run(command, input=lines, text=True, check=True)


def read(place: str, count: int) -> None:
    """Random clips, the same for every place, in one process."""
    cache, rng = open_cache(place), np.random.default_rng(0)
    for _ in range(count):
        read_clip(cache, rng)


def read_clip(cache: Cache, rng: np.random.Generator) -> None:
    """One clip with its targets."""
    index = int(rng.integers(len(cache.sequences)))
    last = max(cache.sequences[index].num_frames - FRAMES, 0)
    start = int(rng.integers(last + 1))
    cache.read_clip(index, np.arange(start, min(start + FRAMES, cache.sequences[index].num_frames)))


if __name__ == "__main__":
    main()
