"""How large the subjects of some sequences are and how their frames are filled: what shows wrong columns, units and axes at a glance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Float32

from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.errors import CacheError, DatasetError, SettingsError
from cross4d_cache.rendering.camera import place_cameras
from cross4d_cache.rendering.camera.framing import nearly_all
from cross4d_cache.rendering.repeats import first_at_place
from cross4d_cache.store import Cache
from cross4d_cache.types import RenderSettings, SequenceInfo
from cross4d_cache.work import Stage, Step, Work

SAMPLE, FRAMES = 8, 16
"""Sequences that are looked at where not all are read, and frames from the start of each."""

AXES = ("right", "down", "forward")
TALLEST, SMALLEST = 100.0, 0.05
"""Metres: no subject of a pinhole camera is taller, or smaller on all sides."""

FEWEST_POINTS, FEWEST_PATCHES = 64, 12.0
MOST_ZEROS = 0.01
TYPICAL = RenderSettings(image_size=224, density="places", framing="most")
"""Cameras where none are chosen yet, with patches of `TYPICAL_PATCH` px."""
TYPICAL_PATCH = 14


@dataclass(frozen=True, kw_only=True)
class SequenceExtent:
    """Of the frames looked at: sides of the box of nearly all points, metres; points of each frame; how many are zeros, repeats, strays.

    `patches` is how many patches of an image have a point, on average; None if the cameras cannot see the sequence.
    """

    sides: tuple[float, float, float]
    counts: tuple[int, ...]
    zeros: int
    repeats: int
    strays: int
    patches: float | None

    @classmethod
    def measure(
        cls, frames: Sequence[Float32[np.ndarray, "_ 3"]], render: RenderSettings = TYPICAL, patch_size: int = TYPICAL_PATCH
    ) -> "SequenceExtent":
        """Of some frames with a point each."""
        points, counts = np.concatenate(frames), [len(frame) for frame in frames]
        framed = nearly_all(points, TYPICAL)
        subject = points if framed is None else points[framed]
        right, down, forward = np.ptp(subject.astype(np.float64), axis=0).tolist()
        return cls(
            sides=(right, down, forward),
            counts=tuple(counts),
            zeros=int((~points.any(axis=1)).sum()),
            repeats=sum(int((~first_at_place(frame)).sum()) for frame in frames),
            strays=len(points) - len(subject),
            patches=_patches(points, counts, render, patch_size),
        )


def _patches(points: Float32[np.ndarray, "point 3"], counts: list[int], render: RenderSettings, patch_size: int) -> float | None:
    """Patches with a point, a frame and view."""
    offsets, size = np.cumsum([0, *counts], dtype=np.int64), render.image_size
    try:
        cameras = place_cameras(points, offsets, render).cameras
    except SettingsError:  # told when the sequence is built
        return None
    frame, found = np.repeat(np.arange(len(counts)), counts), 0
    for camera in cameras:
        with np.errstate(all="ignore"):
            pixels, depth = camera.project(points)
        inside = ((pixels >= 0) & (pixels < size)).all(axis=1) & (depth > 0)
        column, row = (pixels[inside] // patch_size).astype(np.int64).T
        found += len(np.unique((frame[inside] * size + row) * size + column))
    return found / len(counts) / len(cameras)


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Of some sequences: median sides in metres, and the largest; points a frame; shares of zeros, repeats, strays; patches with points."""

    right: float
    down: float
    forward: float
    largest: float
    tallest_axis: str
    points_a_frame: dict[str, int]
    zeros: float
    repeats: float
    strays: float
    patches_a_frame: float | None
    sequences: int

    @classmethod
    def of(cls, sequences: Iterable[SequenceExtent]) -> "Extent | None":
        """Of all of some sequences, None if there are none."""
        held = list(sequences)
        if not held:
            return None
        sides = np.median([item.sides for item in held], axis=0)
        counts = np.array([count for item in held for count in item.counts])
        patches = [item.patches for item in held if item.patches is not None]
        zeros, repeats, strays = (sum(getattr(item, name) for item in held) / counts.sum() for name in ("zeros", "repeats", "strays"))
        return cls(
            right=float(sides[0]),
            down=float(sides[1]),
            forward=float(sides[2]),
            largest=max(max(item.sides) for item in held),
            tallest_axis=AXES[int(sides.argmax())],
            points_a_frame={"least": int(counts.min()), "median": int(np.median(counts)), "most": int(counts.max())},
            zeros=float(zeros),
            repeats=float(repeats),
            strays=float(strays),
            patches_a_frame=float(np.median(patches)) if patches else None,
            sequences=len(held),
        )

    def as_record(self) -> dict[str, Any]:
        """A JSON object."""
        return {**asdict(self), "warnings": self.warnings(), "notes": self.notes()}

    def lines(self) -> list[str]:
        """What there is, for people."""
        points = ", ".join(f"{name} {count:,}" for name, count in self.points_a_frame.items())
        patches = "" if self.patches_a_frame is None else f"; patches with points: {self.patches_a_frame:.1f} an image"
        return [
            f"extent: {self.right:.3g} m right, {self.down:.3g} m down, {self.forward:.3g} m forward, most of it {self.tallest_axis}"
            f" (median of {self.sequences} sequences; the longest side of all: {self.largest:.3g} m)",
            f"points a frame: {points}; zeros {self.zeros:.1%}, repeats {self.repeats:.1%}, strays {self.strays:.2%}{patches}",
        ]

    def warnings(self) -> list[str]:
        """What is hardly meant so."""
        found = []
        longest = max(self.right, self.down, self.forward)
        if self.down > TALLEST:
            found.append(
                f"subjects are {self.down:.3g} m tall: set `dataset.options` metres_per_unit (0.001: millimetres), axes, or columns"
            )
        if longest < SMALLEST:
            found.append(f"subjects measure {longest:.3g} m: set `dataset.options` metres_per_unit")
        if self.points_a_frame["median"] < FEWEST_POINTS or (self.patches_a_frame or FEWEST_PATCHES) < FEWEST_PATCHES:
            found.append("images will be nearly empty: frames have few points, or these lie in few patches")
        if self.zeros > MOST_ZEROS:
            found.append(
                f"{self.zeros:.0%} of the points are at 0, 0, 0: if these are rays without an echo, pass `dataset.options` drop_zeros=true"
            )
        if self.strays:
            found.append("some points lie far off all others and coarsen the store's grid: `dataset.options` range or box leaves them out")
        return found

    def notes(self, *, spherical: bool = False) -> list[str]:
        """What may be meant so; of scans from a spherical camera, nothing."""
        if spherical or self.down * 3 >= max(self.right, self.forward):
            return []
        return [
            "subjects are much wider than high: if they should stand, set `dataset.options` axes (x,-z,y for z up); scans that go all"
            " round take `camera_model` spherical"
        ]

    def report(self, options: Mapping[str, Any], *, spherical: bool = False) -> list[str]:
        """All of it, with the options of the reader in force, a line each."""
        named = ", ".join(f"{name}={value}" for name, value in options.items()) or "none"
        warnings = [f"WARNING: {warning}" for warning in self.warnings()]
        return [f"reader options: {named}", *self.lines(), *warnings, *(f"note: {note}" for note in self.notes(spherical=spherical))]


def of_dataset(dataset: Dataset, sequences: Sequence[SequenceInfo], render: RenderSettings, patch_size: int) -> Extent | None:
    """Of some of the sequences that a build is about to read. What is damaged is left to the build to tell."""
    found = []
    for place in np.unique(np.linspace(0, len(sequences) - 1, min(len(sequences), SAMPLE)).astype(int)).tolist():
        try:
            frames = [frame.points for frame in islice(dataset.frames(sequences[place]), FRAMES)]
        except DatasetError:
            continue
        if frames and all(len(frame) and np.isfinite(frame).all() for frame in frames):
            found.append(SequenceExtent.measure(frames, render, patch_size))
    return Extent.of(found)


def sample(cache: Cache) -> list[int]:
    """Some of the sequences of a store, evenly spread."""
    total = len(cache.sequences)
    picked: list[int] = np.unique(np.linspace(0, total - 1, min(total, SAMPLE)).astype(int)).tolist()
    return picked


def store_extent(cache: Cache, *, read_all: bool = False) -> Work[Extent | None]:
    """Of some sequences of a store, or of all, as it has them; None if they cannot be read, which `verify` tells."""
    chosen, found = range(len(cache.sequences)) if read_all else sample(cache), list[SequenceExtent]()
    stage = Stage(name="extent", unit="sequence", total=len(chosen), delay=0.0 if read_all else 2.0)
    try:
        for index in chosen:
            clip = cache.read_clip(index, np.arange(min(FRAMES, cache.info(index).num_frames)), targets=False)
            frames = np.split(clip.points, clip.point_offsets[1:-1])
            found.append(SequenceExtent.measure(frames, cache.manifest.render, cache.manifest.teacher.patch_size))
            yield Step(stage=stage, done=len(found))
    except CacheError:
        return None
    return Extent.of(found)
