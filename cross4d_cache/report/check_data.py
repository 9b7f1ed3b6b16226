"""What a folder of raw data contains, before hours are spent on it: complete, partly there, or damaged."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from cross4d_cache.build.build import listed
from cross4d_cache.build.estimate import store_bytes
from cross4d_cache.build.extent import FRAMES, Extent, SequenceExtent
from cross4d_cache.build.preparation import thin
from cross4d_cache.build.request import DatasetRequest
from cross4d_cache.build.selection import remarks
from cross4d_cache.datasets.coverage import ClipCoverage, clip_coverage
from cross4d_cache.datasets.files import FileDataset
from cross4d_cache.errors import DatasetError, SettingsError
from cross4d_cache.join import Join
from cross4d_cache.types import Frame, SequenceInfo
from cross4d_cache.work import Stage, Step, Work, steps

SAMPLE, SHOWN = 8, 5
"""Sequences that are read where not all are, and names that are printed where there are many."""

CLIP_LENGTHS = (4, 8, 12, 16, 20, 24, 32, 36)
"""Frames of the clips that published protocols use."""

POINTS_PER_FRAME, CHANNELS = 4096, 384
"""The build's default points and channels."""

BODY_PATCHES, ALL_PATCHES = 50, 256
"""Patches of an image that a body typically hits (measured: 46.6 on MSR-Action3D at 224 px), and all of an image of 224 px."""


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


@dataclass(frozen=True, kw_only=True)
class CheckedData:
    """What `check_data` found in a folder."""

    dataset: FileDataset
    inspection: Inspection

    def as_record(self) -> dict[str, Any]:
        """A JSON object."""
        inspection, dataset = self.inspection, self.dataset
        record = asdict(replace(inspection, damaged=(), joins=(), extent=None))
        record["joins"] = [
            {"list": item.title, "matched": len(item.partners), "extra_rows": item.extra_rows, "extra_sequences": item.extra_sequences}
            for item in inspection.joins
        ]
        record["extent"] = None if inspection.extent is None else inspection.extent.as_record()
        record["damaged"] = [{"found": error.found, "expected": error.expected, "next": error.hint} for error in inspection.damaged]
        options = dataset.options.model_dump(mode="json")
        return {"dataset": dataset.name, "root": str(dataset.root), "options": options, "release": asdict(dataset.release), **record}

    def lines(self) -> list[str]:
        """A table for people, line by line."""
        item, dataset = self.inspection, self.dataset
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
            lines.append("to build without them: " + " ".join(f"`exclude` {name}" for name in item.damaged_ids))
        incomplete = item.missing or item.damaged or (item.expected_sequences or 0) > item.num_sequences
        if dataset.release.files and (incomplete or any((side.expected or 0) > side.found for side in item.sides)):
            lines += [f"to fetch: {dataset.release.files}", f"    from {dataset.release.page}"]
        return lines

    def refuse(self) -> None:
        """End with an error where something is damaged, or nothing is there.

        Raises:
            DatasetError: so it is.
        """
        if damaged := self.inspection.damaged:
            raise DatasetError(f"{self.dataset.root}: {len(damaged)} damaged, see the report", hint="fix or fetch them, or leave them out")
        self.dataset.sequences()


def check_data(
    request: DatasetRequest, *, read_all: bool = False, kept_points: int = POINTS_PER_FRAME, views: int = 1
) -> Work[CheckedData]:
    """What a folder of raw data contains, and how large its store gets with so many points a frame and views.

    A few sequences are read to their end, or all.

    Raises:
        DatasetError: the folder is missing.
        SettingsError: unknown dataset or option, or a dataset that has no files.
    """
    for name, count in (("points_per_frame", kept_points), ("views", views)):
        if count < 1:
            raise SettingsError(f"`{name}` {count}", expected="a count, at least 1", hint=f"pass another `{name}`")
    dataset = yield from listed(request)
    if not isinstance(dataset, FileDataset):
        raise SettingsError(
            f"dataset {request.name} is generated, there are no files to check",
            expected="a dataset of files",
            hint="pass `dataset.name`",
        )
    chosen, results = choose(dataset, read_all=read_all), list[ReadResult]()
    stage = Stage(name="read", unit="sequence", total=len(chosen))
    for result in read_through(dataset, chosen):
        results.append(result)
        yield Step(stage=stage, done=len(results))
    size = yield from steps(Stage(name="sizes", unit="B", delay=2.0), disk_bytes(dataset.root))
    return CheckedData(dataset=dataset, inspection=inspect(dataset, results, disk_bytes=size, kept_points=kept_points, views=views))


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
    """About how large the store of so many kept points gets, for bodies and for scenes that fill all images."""
    rows = (views * min(float(patches), points_per_frame) for patches in (BODY_PATCHES, ALL_PATCHES))
    body, scene = (store_bytes(num_frames, points_per_frame, each, channels, views) for each in rows)
    return body, scene


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


def _store_size(item: Inspection) -> str:
    if item.cache_bytes is None:
        return ""
    body, scene = map(_bytes, item.cache_bytes)
    build = f"`points_per_frame` {item.kept_points} `views` {item.views}"
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
