"""How long reading and writing keep the interpreter lock, for which the threads that feed a device wait.

    python -m pipelines.benchmarks.interpreter_lock read DATASET [--data DIR] [--option KEY=VALUE] ... [--workers 2] [--json FILE]
    python -m pipelines.benchmarks.interpreter_lock write STORE [--json FILE]

`read` prepares sequences as a build does; `write` writes the parts of a store again, into a temporary folder. Printed for each frame:
CPU milliseconds with the lock in this process, how often the lock is given away, and CPU milliseconds of this process. They are counted by
a library of a page (`interpreter_lock.c`) that is compiled by `cc` and preloaded; it sees a Python whose libpython is a shared library.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cross4d_cache.build.prefetch import Preparation, SequenceReader
from cross4d_cache.datasets import open_dataset
from cross4d_cache.errors import user_errors
from cross4d_cache.store import CacheWriter, PartContents, open_cache
from cross4d_cache.store.part import LAYOUT
from cross4d_cache.store.part_reader import Part
from cross4d_cache.store.shard import ArrayMetadata
from cross4d_cache.types import RenderSettings
from pipelines.report_file import report_file

COUNTER = "CROSS4D_COUNTER"


@contextmanager
def counting(counts: dict[str, float]) -> Iterator[None]:
    """What this process does with the lock meanwhile: `held_ms`, `given`, `cpu_ms` and `seconds`."""
    library = ctypes.PyDLL(os.environ[COUNTER])  # its calls do not give the lock away
    library.interpreter_lock_given.restype = library.interpreter_lock_held.restype = ctypes.c_long

    def look() -> tuple[float, ...]:
        held, given = library.interpreter_lock_held(), library.interpreter_lock_given()
        return held / 1e6, given, 1e3 * time.process_time(), time.perf_counter()

    before = look()
    yield
    counts |= {name: now - then for name, now, then in zip(("held_ms", "given", "cpu_ms", "seconds"), look(), before, strict=True)}


def count_reading(name: str, data: Path | None, options: dict[str, str], num_workers: int) -> dict[str, Any]:
    """Every sequence of a dataset, prepared for images of 224 px."""
    dataset = open_dataset(name, data, options)
    infos = dataset.sequences()
    counts: dict[str, float] = {}
    preparation = Preparation(
        dataset=dataset,
        render=RenderSettings(image_size=224, density="places", framing="most"),
        points_per_frame=2048,
        seed=0,
        out=Path("store.zarr"),
    )
    sequences = SequenceReader(preparation=preparation, num_workers=num_workers).sequences([infos[0], *infos])
    next(sequences)  # processes have started, and imported what they need
    with counting(counts):
        for sequence in sequences:
            assert len(sequence.points) == len(sequence.grid)  # decoded here, as a build does
    return per_frame(counts, sum(info.num_frames for info in infos))


def count_writing(store: Path) -> dict[str, Any]:
    """Every part of a store, one after the other."""
    cache = open_cache(store)
    counts: dict[str, float] = {}
    totals = dict.fromkeys(("held_ms", "given", "cpu_ms", "seconds"), 0.0)
    with tempfile.TemporaryDirectory() as folder:
        manifest = cache.manifest.model_copy(update={"complete": False, "parts": ()})
        writer = CacheWriter(Path(folder) / "store.zarr", manifest, cache.projection())
        for number, record in enumerate(cache.manifest.parts):
            part = cache.part(number)
            contents = contents_of(part)
            with counting(counts):
                writer.commit(number, contents)
            totals = {name: totals[name] + counts[name] for name in totals}
            copy = writer.path / "parts" / record.name / "files.json"
            assert copy.read_bytes() == (store / "parts" / record.name / "files.json").read_bytes(), "another part than the store's"
    return per_frame(totals, sum(record.num_frames for record in cache.manifest.parts))


def contents_of(part: Part) -> PartContents:
    """All arrays of a part."""
    lengths = {name: ArrayMetadata.parse(part.fetch(f"{name}/zarr.json")).shape[0] for name in LAYOUT if part.has(name)}
    arrays: dict[str, Any] = {name: part.rows(name, 0, length) for name, length in lengths.items()}
    return PartContents(sequences=part.infos, **arrays)


def per_frame(counts: dict[str, float], num_frames: int) -> dict[str, Any]:
    """The counts of a frame in the mean."""
    return {"frames": num_frames, **{name: round(count / num_frames, 4) for name, count in counts.items()}}


def preload() -> None:
    """Run this command again with the counter before libpython's functions.

    Raises:
        CalledProcessError: the counter cannot be compiled.
    """
    source = Path(__file__).with_suffix(".c")
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/interpreter_lock.so"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, str(source), "-ldl"], check=True)
        command, environment = [sys.executable, "-m", __spec__.name, *sys.argv[1:]], os.environ | {"LD_PRELOAD": library, COUNTER: library}
        raise SystemExit(subprocess.run(command, env=environment, check=False).returncode)


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    read, write = commands.add_parser("read"), commands.add_parser("write")
    read.add_argument("dataset")
    read.add_argument("--data", type=Path)
    read.add_argument("--option", action="append", default=[])
    read.add_argument("--workers", type=int, default=2)
    write.add_argument("store", type=Path)
    for command in (read, write):
        command.add_argument("--json", type=report_file)
    args = parser.parse_args()
    if COUNTER not in os.environ:
        preload()
    with user_errors():
        if args.command == "read":
            counts = count_reading(args.dataset, args.data, dict(pair.split("=", 1) for pair in args.option), args.workers)
        else:
            counts = count_writing(args.store)
    print(json.dumps(counts))
    if args.json:
        from torch import device  # only now: no process that is measured should have it

        from pipelines.benchmarks.machine import describe_machine

        row = {**vars(args), "data": None, "store": None, "json": None, **counts, "machine": describe_machine(device("cpu"))}
        args.json.write_text(json.dumps({name: value for name, value in row.items() if value is not None}, indent=1) + "\n")


if __name__ == "__main__":
    main()
