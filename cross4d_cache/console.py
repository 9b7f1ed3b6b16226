"""What the commands say: talk and progress on stderr, results on stdout."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cross4d_cache.store import CacheManifest


def say(text: str) -> None:
    """One line for the user."""
    print(text, file=sys.stderr)


def warn_random(manifest: CacheManifest) -> None:
    """Say loudly that targets come from an untrained teacher."""
    if manifest.teacher.is_random:
        say(f"WARNING: teacher {manifest.teacher.name} has RANDOM weights: for plumbing and throughput only, its targets mean nothing")


def print_result(result: dict[str, Any], as_json: bool) -> None:
    """The result: one JSON object, or aligned lines."""
    if as_json:
        print(json.dumps(result))
        return
    width = max(map(len, result))
    for key, value in result.items():
        shown = ", ".join(f"{name} {item}" for name, item in value.items()) if isinstance(value, dict) else value
        print(f"{key.replace('_', ' '):<{width}}  {shown}")


def print_table(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Records of the same fields: one JSON list, or aligned columns."""
    if as_json:
        print(json.dumps(rows))
        return
    cells = [[name.replace("_", " ") for name in rows[0]]]
    cells += [["" if value is None else f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def follow(steps: Iterable[tuple[int, str]], *, total: int, unit: str, desc: str) -> None:
    """Run through the steps of long work, each of which says how much is done and what to write beside it."""
    with tqdm(total=total, unit=unit, desc=desc, file=sys.stderr, unit_scale=unit == "B") as bar:
        for done, note in steps:
            bar.update(done - bar.n)
            bar.set_postfix_str(note, refresh=False)


def summary(store: Path, manifest: CacheManifest) -> dict[str, Any]:
    """What a store is. `dense_bytes` is what one float16 target for each of 2,048 points a frame would take."""
    parts, teacher = manifest.parts, manifest.teacher
    frames, points = sum(part.num_frames for part in parts), sum(part.num_points for part in parts)
    rows, size = sum(part.num_rows for part in parts), sum(part.bytes for part in parts)
    return {
        "store": str(store),
        "state": "complete" if manifest.complete else f"unfinished, {len(parts)} of {manifest.plan.num_parts} parts",
        "dataset": manifest.dataset.name,
        "sequences": sum(part.num_sequences for part in parts),
        "frames": frames,
        "teacher": teacher.name,
        "weights": teacher.weights + (" (UNTRAINED)" if teacher.is_random else ""),
        "weights_sha256": teacher.sha256,
        "image": f"{teacher.image_size} px, patches of {teacher.patch_size} px, tubelets of {teacher.tubelet}",
        "cameras": f"{manifest.views} {manifest.render.camera_model}, {manifest.render.camera}",
        "visibility": manifest.render.visibility,
        "correspondence": manifest.correspondence,
        "channels": f"{teacher.channels} -> {manifest.projection.channels} ({manifest.projection.kind})",
        "points_per_frame": round(points / max(frames, 1), 1),
        "visible_share": round(sum(part.num_visible for part in parts) / max(points, 1), 4),
        "rows_per_frame": round(rows / max(frames, 1), 2),
        "bytes": size,
        "bytes_per_frame": round(size / max(frames, 1)),
        "dense_bytes": frames * 2048 * manifest.projection.channels * 2,
        "fingerprint": manifest.fingerprint,
    }
