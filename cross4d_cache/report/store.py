"""What a store is: its summary, and what a user should know of it."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from cross4d_cache.store import Cache
from cross4d_cache.types import UNLABELLED
from cross4d_cache.work import Remark, Work, newer


def about(cache: Cache) -> Work[Cache]:
    """What a user should know of a store: fields of a newer release, an untrained teacher, and what `about_finished` says."""
    yield from newer(cache.manifest, cache.storage.place)
    if cache.manifest.teacher.is_random:
        yield Remark(cache.manifest.teacher.warning)
    return (yield from about_finished(cache))


def about_finished(cache: Cache) -> Work[Cache]:
    """What a user should know of a store that was just built: sides that it lacks, and that nothing is visible."""
    yield from _sides(cache)
    yield from _blindness(cache)
    return cache


def _sides(cache: Cache) -> Iterator[Remark]:
    """Of which protocols a finished store has one side alone, as one of the first sequences often does: evaluations need both."""
    for side, other in (("test", "train"), ("train", "test")):
        found = {name: {info.splits.get(name) for info in cache.sequences} for name in cache.manifest.dataset.protocols}
        lacking = [name for name, present in found.items() if other in present and side not in present]
        if cache.manifest.complete and lacking:
            yield Remark(
                f"note: no sequence is on the {side} side of {', '.join(lacking)}; a build without `limit` has what the dataset has of it"
            )


def _blindness(cache: Cache) -> Iterator[Remark]:
    """That no camera sees a point of a store: nothing can be learned from it."""
    parts = cache.manifest.parts
    if not cache.manifest.teacher.makes_targets:
        yield Remark("note: built without a teacher: points and labels for features and evaluations, and no targets to pre-train on")
    elif parts and not any(part.num_visible for part in parts):
        yield Remark(
            "WARNING: no camera sees any point: nothing can be learned from this store; see `camera`, `camera_model` and `correspondence`"
        )


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
