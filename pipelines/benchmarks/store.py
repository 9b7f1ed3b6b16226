"""What a store weighs, array by array, and how fast clips come out of it.

    python -m pipelines.benchmarks.store STORE [--frames 24] [--clips 200] [--json]

Bytes are those on disk. `dense` is what one float16 feature vector for each of 2,048 points a frame would take. The fixed-point error
is the largest that any coordinate can have.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from cross4d_cache.store import Cache, open_cache
from cross4d_cache.store.part_reader import PartFiles


def bytes_by_array(cache: Cache) -> dict[str, int]:
    """Bytes on disk of each array over all parts, metadata under its own name."""
    sizes: dict[str, int] = {}
    for part in cache.manifest.parts:
        for file in PartFiles(cache.storage, part).files.values():
            inside = file.name.split("/")[2:]
            name = inside[0] if "c" in inside else "metadata"
            sizes[name] = sizes.get(name, 0) + file.bytes
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def largest_error(cache: Cache) -> float:
    """Half a step of the fixed-point grid, metres, for the longest side of any sequence's box."""
    longest = 0.0
    for number in range(len(cache.manifest.parts)):
        longest = max(longest, float(cache.part(number).boxes[:, 1].max()))
    return longest / 2


def clips_per_second(store: Path, num_frames: int, num_clips: int, *, targets: bool) -> float:
    """Random clips read one after another in this process, the store's files in the page cache."""
    cache = open_cache(store)
    rng = np.random.default_rng(0)

    def read() -> None:
        index = int(rng.integers(len(cache.sequences)))
        last = cache.sequences[index].num_frames
        start = int(rng.integers(max(1, last - num_frames + 1)))
        cache.read_clip(index, np.minimum(np.arange(start, start + num_frames), last - 1), targets=targets)

    for _ in range(num_clips // 4):
        read()
    start = time.perf_counter()
    for _ in range(num_clips):
        read()
    return num_clips / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    cache = open_cache(args.store)
    frames = sum(part.num_frames for part in cache.manifest.parts)
    sizes = bytes_by_array(cache)
    result: dict[str, Any] = {
        "frames": frames,
        "rows a frame": sum(part.num_rows for part in cache.manifest.parts) / frames,
        "points a frame": sum(part.num_points for part in cache.manifest.parts) / frames,
        "channels": cache.manifest.projection.channels,
        "bytes a frame": {"total": sum(sizes.values()) / frames, **{name: size / frames for name, size in sizes.items()}},
        "dense bytes a frame": 2048 * cache.manifest.projection.channels * 2,
        "fixed-point error, mm": largest_error(cache) * 1000,
        f"clips of {args.frames} frames a second": {
            "points and targets": clips_per_second(args.store, args.frames, args.clips, targets=True),
            "points": clips_per_second(args.store, args.frames, args.clips, targets=False),
        },
    }
    if args.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        if isinstance(value, dict):
            print(f"{key}:")
            for name, item in value.items():
                print(f"    {name:20}{item:14.1f}")
        else:
            print(f"{key:24}{value:14.4g}")


if __name__ == "__main__":
    main()
