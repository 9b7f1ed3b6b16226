"""A sequence made ready for the device: points thinned and put on the store's grid, cameras placed.

What is rendered is exactly what the store keeps, so that anybody can render and check a store from itself.
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Float64, Int16, Int64, UInt16, UInt32

from cross4d_cache.rendering.camera import SequenceViews, place_windows
from cross4d_cache.rendering.repeats import first_at_place
from cross4d_cache.store import quantize
from cross4d_cache.types import Frame, PointCloudSequence, RenderSettings, SequenceInfo


@dataclass(frozen=True, kw_only=True)
class PreparedSequence:
    """The kept points of a sequence as stored, `grid` in `box`, with its cameras.

    `views` holds those of every camera window, `RenderSettings.camera_window`.
    """

    info: SequenceInfo
    grid: UInt16[np.ndarray, "point 3"]
    box: Float64[np.ndarray, "2 3"]
    point_offsets: Int64[np.ndarray, " boundary"]
    views: tuple[SequenceViews, ...]
    part_labels: UInt16[np.ndarray, " point"] | None
    surface_ids: UInt32[np.ndarray, " point"] | None
    frame_actions: Int16[np.ndarray, " frame"] | None

    @cached_property
    def points(self) -> Float32[np.ndarray, "point 3"]:
        """The points as anybody decodes them, metres; in a process that is sent the sequence, by that process."""
        return quantize.decode(self.grid, self.box)

    def count(self, frame: int) -> int:
        """Points of a frame."""
        return int(self.point_offsets[frame + 1] - self.point_offsets[frame])


def prepare(info: SequenceInfo, frames: Iterable[Frame], render: RenderSettings, *, points_per_frame: int, seed: int) -> PreparedSequence:
    """Thin every frame to at most `points_per_frame` points, chosen by `seed` and the sequence's id, in their original order.

    A point that lies several times in a frame is kept once, unless `render.density` is that of release 0.1.

    Raises:
        DatasetError: see `thin`.
        SettingsError: the cameras cannot see the sequence.
    """
    sequence = thin(info, frames, points_per_frame=points_per_frame, seed=seed, repeats=render.density == "rows")
    box = quantize.bounding_box(sequence.points)
    grid = quantize.encode(sequence.points, box)
    decoded = quantize.decode(grid, box)
    return PreparedSequence(
        info=info,
        grid=grid,
        box=box,
        point_offsets=sequence.point_offsets,
        views=place_windows(decoded, sequence.point_offsets, render, sequence.surface_ids),
        part_labels=sequence.part_labels,
        surface_ids=sequence.surface_ids,
        frame_actions=sequence.frame_actions,
    )


def thin(info: SequenceInfo, frames: Iterable[Frame], *, points_per_frame: int, seed: int, repeats: bool = False) -> PointCloudSequence:
    """A sequence with at most `points_per_frame` points a frame, and with `repeats` as many rows, wherever they lie.

    Frames are thinned as they come, so memory grows with the kept points only.

    Raises:
        DatasetError: not as many frames as the listing says, a frame without points, or coordinates that are not finite.
    """
    rng = np.random.default_rng([seed, zlib.crc32(info.id.encode())])
    return PointCloudSequence.collect(info, _thinned(frames, points_per_frame, rng, repeats))


def _thinned(frames: Iterable[Frame], most: int, rng: np.random.Generator, repeats: bool) -> Iterator[Frame]:
    """Tracks stay whole: while a frame has the same surface ids as the one before, the same points are kept."""
    picks: Int64[np.ndarray, " kept"] | None = None
    ids: UInt32[np.ndarray, " point"] | None = None
    for frame in frames:
        if ids is None or frame.surface_ids is None or not np.array_equal(ids, frame.surface_ids):
            picks = _picks(frame, most, rng, repeats)
        ids = frame.surface_ids
        yield frame if picks is None else frame[picks]


def _picks(frame: Frame, most: int, rng: np.random.Generator, repeats: bool) -> Int64[np.ndarray, " kept"] | None:
    """Rows of a frame to keep, None for all."""
    rows = np.arange(len(frame.points)) if repeats else np.flatnonzero(first_at_place(frame.points))
    if len(rows) <= most:
        return None if len(rows) == len(frame.points) else rows
    kept = np.zeros(len(rows), dtype=bool)
    kept[rng.permutation(len(rows))[:most]] = True
    return rows[kept]
