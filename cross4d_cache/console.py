"""What the commands say: talk and progress on stderr, results on stdout."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from cross4d_cache.errors import printable, with_options
from cross4d_cache.progress import Progress
from cross4d_cache.record import Record, newer_note
from cross4d_cache.store import Cache, CacheManifest
from cross4d_cache.types import UNLABELLED
from cross4d_cache.work import Advice, Remark, Result, Stage, Work

MOST_BARS = 25
BAR = 50
"""Characters of the longest bar."""


def say(text: str) -> None:
    """One line for the user."""
    print(printable(text), file=sys.stderr)


def warn_random(manifest: CacheManifest) -> None:
    """Say loudly that targets come from an untrained teacher."""
    if manifest.teacher.is_random:
        say(f"WARNING: teacher {manifest.teacher.name} has RANDOM weights: for plumbing and throughput only, its targets mean nothing")


def note_newer(cache: Cache) -> None:
    """Say which recorded fields of a newer release this one does not understand."""
    note = newer_note(cache.manifest, cache.storage.place)
    if note is not None:
        say(note)


def note_sides(cache: Cache) -> None:
    """Say of which protocols a finished store has one side alone, as one of the first sequences often does: evaluations need both."""
    for side, other in (("test", "train"), ("train", "test")):
        sides = {name: {info.splits.get(name) for info in cache.sequences} for name in cache.manifest.dataset.protocols}
        lacking = [name for name, found in sides.items() if other in found and side not in found]
        if cache.manifest.complete and lacking:
            say(f"note: no sequence is on the {side} side of {', '.join(lacking)}; a build without --limit has what the dataset has of it")


def note_blind(cache: Cache) -> None:
    """Say loudly that no camera sees a point of a store: nothing can be learned from it."""
    parts = cache.manifest.parts
    if parts and not any(part.num_visible for part in parts):
        say("WARNING: no camera sees any point: nothing can be learned from this store; see --camera, --camera-model and --correspondence")


def show(lines: Iterable[str]) -> None:
    """Lines of a result."""
    print("\n".join(map(printable, lines)))


def print_result(result: dict[str, Any], as_json: bool) -> None:
    """The result: one JSON object, or aligned lines."""
    if as_json:
        print(json.dumps(result))
        return
    width = max(map(len, result))
    show(f"{key.replace('_', ' '):<{width}}  {_shown(value)}" for key, value in result.items())


def _shown(value: object) -> object:
    if not isinstance(value, dict):
        return value
    nested = any(isinstance(item, dict) for item in value.values())
    return ("; " if nested else ", ").join(f"{name}: {_shown(item)}" if nested else f"{name} {item}" for name, item in value.items())


def show_json(record: Record) -> None:
    """A result as one JSON object, with `\\u` in place of all that is not ASCII."""
    print(json.dumps(json.loads(record.model_dump_json())))


def print_overview(cache: Cache) -> None:
    """Bars: sequences by split and by action, and the share of points with a target."""
    names = cache.manifest.dataset.action_names
    for protocol in cache.manifest.dataset.protocols[:1]:
        print_bars(f"sequences, {protocol}", Counter(info.splits.get(protocol, "neither") for info in cache.sequences))
    actions = Counter(info.action for info in cache.sequences if info.action != UNLABELLED)
    shown = [(names[action] if action < len(names) else str(action), actions[action]) for action in sorted(actions)]
    if shown:
        print_bars(
            "sequences, action" + (f" (the first {MOST_BARS} of {len(shown)})" if len(shown) > MOST_BARS else ""), dict(shown[:MOST_BARS])
        )


def print_bars(title: str, counts: Mapping[str, int]) -> None:
    """Counts as bars of one common scale."""
    most, width = max(counts.values(), default=0), max(map(len, counts), default=0)
    show(["", title, *(f"  {name:<{width}}  {count:>7,}  {'#' * round(BAR * count / max(most, 1))}" for name, count in counts.items())])


def print_table(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Records of the same fields: one JSON list, or aligned columns."""
    if as_json:
        print(json.dumps(rows))
        return
    cells = [[name.replace("_", " ") for name in rows[0]]]
    cells += [["" if value is None else f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    show("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)


def follow_work(work: Work[Result], options: Mapping[str, str], *, quiet: bool = False) -> Result:
    """Do all of the work with its progress shown, say what it remarks, and return its record. `options`: what settings are called here."""
    stage: Stage | None = None
    shown: Progress | None = None
    try:
        while True:
            event = next(work)
            if isinstance(event, Remark):
                (say if shown is None else shown.say)(printable(with_options(event.text, options)))
                continue
            if shown is None or event.stage is not stage:
                if shown is not None:
                    shown.close()
                stage = event.stage
                shown = Progress.of(replace(stage, advice=_translated(stage.advice, options)), quiet=quiet)
            shown.note = event.note
            shown.move(event.done)
    except StopIteration as end:
        result: Result = end.value
        return result
    finally:
        if shown is not None:
            shown.close()
        work.close()


def _translated(advice: Advice | None, options: Mapping[str, str]) -> Advice | None:
    return None if advice is None else lambda seconds: with_options(advice(seconds), options)


def follow(
    steps: Iterable[tuple[int, str]], *, total: int, unit: str, desc: str, quiet: bool = False, advice: Advice = lambda seconds: ""
) -> None:
    """Run through the steps of long work, each of which says how much is done and what to write beside it."""
    with Progress(total=total, unit=unit, desc=desc, quiet=quiet, advice=advice) as shown:
        for done, shown.note in steps:
            shown.move(done)


def count(found: Iterable[int], *, unit: str, desc: str, quiet: bool) -> int:
    """Run through work whose end is not known, and that says how much it found so far; shown if it takes long. Returns the last."""
    last = 0
    with Progress(total=None, unit=unit, desc=desc, quiet=quiet, delay=2.0) as shown:
        for last in found:
            shown.move(last)
    return last


def on_device(kind: str) -> Advice:
    """What is said of work that takes long on a device, `cpu` or `cuda`."""
    return lambda seconds: " on this GPU" if kind == "cuda" else " on this CPU; a GPU is faster"


def summary(cache: Cache) -> dict[str, Any]:
    """What a store is. `dense_bytes` is what a float16 target of its own for each point that has one would take."""
    manifest = cache.manifest
    parts, teacher = manifest.parts, manifest.teacher
    sides = {protocol: Counter(info.splits.get(protocol, "neither") for info in cache.sequences) for protocol in manifest.dataset.protocols}
    lengths = sorted(info.num_frames for info in cache.sequences) or [0]
    frames, points = sum(part.num_frames for part in parts), sum(part.num_points for part in parts)
    rows, size = sum(part.num_rows for part in parts), sum(part.bytes for part in parts)
    return {
        "store": cache.storage.place,
        "state": "complete" if manifest.complete else f"unfinished, {len(parts)} of {manifest.plan.num_parts} parts",
        "dataset": manifest.dataset.name,
        "sequences": sum(part.num_sequences for part in parts),
        "splits": {protocol: dict(sorted(sides[protocol].items(), reverse=True)) for protocol in sides},
        "actions": len({info.action for info in cache.sequences} - {UNLABELLED}),
        "subjects": len({info.subject for info in cache.sequences} - {UNLABELLED}),
        "frames": frames,
        "frames_per_sequence": {"least": lengths[0], "median": lengths[len(lengths) // 2], "most": lengths[-1]},
        "teacher": teacher.name,
        "weights": teacher.weights + (" (UNTRAINED)" if teacher.is_random else ""),
        "weights_sha256": teacher.sha256,
        "image": f"{teacher.image_size} px, patches of {teacher.patch_size} px, tubelets of {teacher.tubelet}",
        "normalisation": f"mean {' '.join(map(str, teacher.mean))}, deviation {' '.join(map(str, teacher.std))}, scale {teacher.scale:g}",
        "cameras": f"{manifest.views} {manifest.render.camera_model}, {manifest.render.camera}",
        "visibility": manifest.render.visibility,
        "correspondence": manifest.correspondence,
        "channels": f"{teacher.channels} -> {manifest.projection.channels} ({manifest.projection.kind})",
        "points_per_frame": round(points / max(frames, 1), 1),
        "visible_share": round(sum(part.num_visible for part in parts) / max(points, 1), 4),
        "rows_per_frame": round(rows / max(frames, 1), 2),
        "bytes": size,
        "bytes_per_frame": round(size / max(frames, 1)),
        "dense_bytes": sum(part.num_visible for part in parts) * manifest.projection.channels * 2,
        "fingerprint": manifest.fingerprint,
        "checksum": manifest.checksum,
    }
