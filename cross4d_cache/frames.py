"""A sequence made ready for the device: points thinned and put on the store's grid, cameras placed.

What is rendered is exactly what the store keeps, so that anybody can render and check a store from itself.
"""

import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt16, UInt32

from cross4d_cache.camera import SequenceViews, place_cameras
from cross4d_cache.store import quantize
from cross4d_cache.types import PointCloudSequence, RenderSettings, SequenceInfo


@dataclass(frozen=True, kw_only=True)
class PreparedSequence:
    """The kept points of a sequence as stored (`grid` in `box`) and as decoded (`points`, metres), with its cameras."""

    info: SequenceInfo
    grid: UInt16[np.ndarray, "point 3"]
    box: Float64[np.ndarray, "2 3"]
    points: Float32[np.ndarray, "point 3"]
    point_offsets: Int64[np.ndarray, " boundary"]
    views: SequenceViews
    part_labels: UInt16[np.ndarray, " point"] | None
    surface_ids: UInt32[np.ndarray, " point"] | None


def prepare(sequence: PointCloudSequence, render: RenderSettings, *, points_per_frame: int, seed: int) -> PreparedSequence:
    """Thin every frame to at most `points_per_frame` points, chosen by `seed` and the sequence's id, in their original order."""
    kept, offsets = _thin(sequence, points_per_frame, np.random.default_rng([seed, zlib.crc32(sequence.info.id.encode())]))
    points = sequence.points[kept]
    box = quantize.bounding_box(points)
    grid = quantize.encode(points, box)
    decoded = quantize.decode(grid, box)
    return PreparedSequence(
        info=sequence.info,
        grid=grid,
        box=box,
        points=decoded,
        point_offsets=offsets,
        views=place_cameras(decoded, offsets, render),
        part_labels=None if sequence.part_labels is None else sequence.part_labels[kept],
        surface_ids=None if sequence.surface_ids is None else sequence.surface_ids[kept],
    )


def _thin(
    sequence: PointCloudSequence, most: int, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " boundary"]]:
    chosen = []
    for start, stop in zip(sequence.point_offsets[:-1], sequence.point_offsets[1:], strict=True):
        count = int(stop - start)
        picks = np.arange(count) if count <= most else np.sort(rng.permutation(count)[:most])
        chosen.append(start + picks)
    offsets = np.cumsum([0, *map(len, chosen)], dtype=np.int64)
    return np.concatenate(chosen).astype(np.int64), offsets
