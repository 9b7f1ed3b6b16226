"""What a folder of raw data holds, before hours are spent on it: complete, partly there, or damaged."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from cross4d_cache.build.preparation import thin
from cross4d_cache.build.selection import remarks
from cross4d_cache.datasets.coverage import ClipCoverage, clip_coverage
from cross4d_cache.datasets.files import FileDataset
from cross4d_cache.errors import DatasetError
from cross4d_cache.join import Join
from cross4d_cache.report.extent import FRAMES, Extent, SequenceExtent
from cross4d_cache.types import Frame, SequenceInfo

SAMPLE, SHOWN = 8, 5
"""Sequences that are read where not all are, and names that are printed where there are many."""

CLIP_LENGTHS = (4, 8, 12, 16, 20, 24, 32, 36)
"""Frames of the clips that published protocols use."""

POINTS_PER_FRAME, CHANNELS = 4096, 384
"""The build's default points and channels."""

BODY_PATCHES, ALL_PATCHES = 50, 256
"""Patches of an image that a body typically hits (measured: 46.6 on MSR-Action3D at 224 px), and all of an image of 224 px."""

PACKED = 0.6
"""What zstd leaves of coordinates and patch slots (measured on MSR-Action3D)."""
COORDINATE_BYTES, SLOT_BYTES = 6, 2
"""Of a point, and of a point in a view."""


@dataclass(frozen=True)
class ReadResult:
    """A sequence that was read to its end: its points a frame and extent, or what is wrong with it."""

    info: SequenceInfo
    points_per_frame: float
    damage: DatasetError | None
    extent: SequenceExtent | None = None


@dataclass(frozen=True)
class SideCount:
    """Sequences on one side of a protocol, and how many a complete copy has (None if not known)."""

    protocol: str
    side: str
    found: int
    expected: int | None


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What there is, what is missing, what is damaged.

    `missing` are ids that a complete copy has and this one lacks; empty where the ids of a complete copy are not known.
    `joins` are the user's own lists with the sequences that they speak of, and `notes` say in words what these and others lack.
    `damaged` is what the listing or reading found; `read` sequences were read to their end. `points_per_frame` is the median of
    these, before thinning. `cache_bytes` are rough estimates for a store of at most `kept_points` a frame and so many `views`, with 384
    channels: of bodies, and of scenes that fill all images.
    """

    sides: tuple[SideCount, ...]
    num_sequences: int
    expected_sequences: int | None
    num_frames: int
    read: int
    missing: tuple[str, ...]
    damaged: tuple[DatasetError, ...]
    damaged_ids: tuple[str, ...]
    coverage: tuple[ClipCoverage, ...]
    joins: tuple[Join, ...]
    notes: tuple[str, ...]
    points_per_frame: float | None
    disk_bytes: int
    kept_points: int
    views: int
    cache_bytes: tuple[int, int] | None
    extent: Extent | None = None


def choose(dataset: FileDataset, *, read_all: bool) -> list[SequenceInfo]:
    """The sequences to read: all, or some spread evenly over the listing."""
    sequences = dataset.listing.sequences
    if read_all or len(sequences) <= SAMPLE:
        return list(sequences)
    return [sequences[index] for index in np.linspace(0, len(sequences) - 1, SAMPLE).astype(int)]


def read_through(dataset: FileDataset, sequences: Iterable[SequenceInfo]) -> Iterator[ReadResult]:
    """Read sequences to their end, exactly as a build would."""
    for info in sequences:
        counts: list[int] = []
        damage, first = None, list[Float32[np.ndarray, "_ 3"]]()
        try:
            thin(info, _counted(dataset, info, counts, first), points_per_frame=POINTS_PER_FRAME, seed=0)
        except DatasetError as error:
            damage = error
        extent = SequenceExtent.measure(first) if first and damage is None else None
        yield ReadResult(info, float(np.mean(counts)) if counts else 0.0, damage, extent)


def _counted(dataset: FileDataset, info: SequenceInfo, counts: list[int], first: list[Float32[np.ndarray, "_ 3"]]) -> Iterator[Frame]:
    """The frames of a sequence; their points are counted, and those of the first few kept."""
    for frame in dataset.frames(info):
        if len(first) < FRAMES:
            first.append(frame.points)
        counts.append(len(frame.points))
        if len(frame.points) > 1 and (frame.points == frame.points[0]).all():
            raise DatasetError(
                f"sequence {info.id}: all {len(frame.points)} points of frame {len(counts) - 1} are {frame.points[0].tolist()}",
                expected="points that differ",
                hint="the file was written in part; fetch it again",
            )
        yield frame


def inspect(
    dataset: FileDataset, results: list[ReadResult], *, disk_bytes: int, kept_points: int = POINTS_PER_FRAME, views: int = 1
) -> Inspection:
    """Put together what the listing says and what reading found, and how large a store of so many points and views gets."""
    listing, expected = dataset.listing, dataset.expected()
    sequences = listing.sequences
    found = Counter((protocol, side) for info in sequences for protocol, side in info.splits.items())
    protocols = [protocol for protocol in dataset.protocols if protocol in expected.splits or any(key[0] == protocol for key in found)]
    intact = [result.points_per_frame for result in results if result.damage is None]
    num_frames = sum(info.num_frames for info in sequences)
    present = {*(info.id for info in sequences), *(damage.error.sequence for damage in listing.damaged)}
    points = float(np.median(intact)) if intact else None
    return Inspection(
        sides=tuple(
            SideCount(protocol, side, found[protocol, side], expected.splits.get(protocol, {}).get(side))
            for protocol in protocols
            for side in ("train", "test")
        ),
        num_sequences=len(sequences),
        expected_sequences=expected.num_sequences,
        num_frames=num_frames,
        read=len(results),
        missing=tuple(sorted(set(expected.ids) - present)),
        damaged=(*(damage.error for damage in listing.damaged), *(result.damage for result in results if result.damage is not None)),
        damaged_ids=(
            *(damage.error.sequence for damage in listing.damaged if damage.error.sequence),
            *(result.info.id for result in results if result.damage is not None),
        ),
        coverage=tuple(clip_coverage(sequences, protocol, length) for protocol in protocols[:1] for length in CLIP_LENGTHS),
        joins=tuple(dataset.joins()),
        notes=tuple(remarks(dataset)),
        points_per_frame=points,
        disk_bytes=disk_bytes,
        kept_points=kept_points,
        views=views,
        cache_bytes=None if points is None else estimate_cache_bytes(num_frames, min(points, float(kept_points)), CHANNELS, views),
        extent=Extent.of(result.extent for result in results if result.extent is not None),
    )


def estimate_cache_bytes(num_frames: int, points_per_frame: float, channels: int, views: int) -> tuple[int, int]:
    """About how large the store of so many kept points gets, for bodies (within some ten percent) and for scenes that fill all images."""
    point_bytes = points_per_frame * PACKED * (COORDINATE_BYTES + views * SLOT_BYTES)
    body, scene = (views * min(patches, points_per_frame) * 2 * channels for patches in (BODY_PATCHES, ALL_PATCHES))
    return int(num_frames * (point_bytes + body)), int(num_frames * (point_bytes + scene))


def disk_bytes(root: Path) -> Iterator[int]:
    """Size of all files below a folder, also of folders that are linked, each once; yields it as it grows."""
    total, seen = 0, set[str]()
    for folder, inner, names in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:  # a link to a folder above would go round for ever
            inner.clear()
            continue
        seen.add(place)
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_size
            except OSError:  # a dangling link, or gone meanwhile
                continue
        yield total


def as_record(inspection: Inspection, dataset: FileDataset) -> dict[str, Any]:
    """An inspection as a JSON object."""
    record = asdict(replace(inspection, damaged=(), joins=(), extent=None))
    record["joins"] = [
        {"list": item.title, "matched": len(item.partners), "extra_rows": item.extra_rows, "extra_sequences": item.extra_sequences}
        for item in inspection.joins
    ]
    record["extent"] = None if inspection.extent is None else inspection.extent.as_record()
    record["damaged"] = [{"found": error.found, "expected": error.expected, "next": error.hint} for error in inspection.damaged]
    options = dataset.options.model_dump(mode="json")
    return {"dataset": dataset.name, "root": str(dataset.root), "options": options, "release": asdict(dataset.release), **record}


def describe(inspection: Inspection, dataset: FileDataset) -> list[str]:
    """An inspection as a table for people, line by line."""
    item = inspection
    lines = [
        f"{dataset.release.title} in {dataset.root} (dataset {dataset.name}, reader version {dataset.version})",
        f"sequences: {item.num_sequences:,}{_of(item.expected_sequences)}; frames: {item.num_frames:,}; read to the end: {item.read:,}",
    ]
    lines += [f"  {side.protocol:>16} {side.side:5}  {side.found:>7,}{_of(side.expected)}" for side in item.sides]
    for cover in item.coverage:
        full = ", ".join(f"{side} {count.full:,} of {count.videos:,}" for side, count in cover.sides.items())
        short = [name for count in cover.sides.values() for name in count.short]
        lines.append(f"  full clips of {cover.length:>2} frames: {full}{_first(short, '; short: ')}")
    if item.extent is not None:
        lines += item.extent.report(dataset.options.model_dump(mode="json"))
    lines.append(f"size: {_bytes(item.disk_bytes)} on disk" + _store_size(item))
    lines += [f"note: {note}" for note in item.notes]
    if item.missing:
        lines.append(f"missing: {len(item.missing):,}{_first(item.missing, ', first: ')}")
    for error in item.damaged:
        first, *others = str(error).splitlines()
        lines += [f"damaged: {first}", *(f"  {line}" for line in others)]
    if item.damaged_ids and item.num_sequences:
        lines.append("to build without them: " + " ".join(f"--exclude {name}" for name in item.damaged_ids))
    incomplete = item.missing or item.damaged or (item.expected_sequences or 0) > item.num_sequences
    if dataset.release.files and (incomplete or any((side.expected or 0) > side.found for side in item.sides)):
        lines += [f"to fetch: {dataset.release.files}", f"    from {dataset.release.page}"]
    return lines


def _store_size(item: Inspection) -> str:
    if item.cache_bytes is None:
        return ""
    body, scene = map(_bytes, item.cache_bytes)
    build = f"--points {item.kept_points} --views {item.views}"
    return f"; a store takes about {body} of bodies, up to {scene} of scenes that fill the images ({build}, {CHANNELS} channels)"


def _of(expected: int | None) -> str:
    return "" if expected is None else f" of {expected:,}"


def _first(names: Sequence[str], label: str) -> str:
    if not names:
        return ""
    return label + ", ".join(names[:SHOWN]) + (f", ... ({len(names) - SHOWN} more)" if len(names) > SHOWN else "")


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
