"""Depth-shaded images of point clouds, whole batches of frames at once, on any device.

A z-buffer keeps the nearest depth of every cell; a morphological closing fills the gaps between points; depth and image-space normals
become brightness (paper, section 3.1).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from cross4d_cache.rendering.camera import Bounds
from cross4d_cache.rendering.device import upload
from cross4d_cache.rendering.projection import CameraBatch
from cross4d_cache.types import RenderSettings

LIGHT = (-0.4, -0.5, -0.77)
"""Direction towards the light in camera axes: from behind the viewer's left shoulder, so that slopes to all sides differ."""

AMBIENT = 0.3
FARTHEST_TONE = 0.45


@dataclass(frozen=True, kw_only=True)
class RenderedView:
    """Images of a batch, and where every point fell in its own.

    `image` is brightness in [0, 1], background 0. `depth` and `slope` cover the rows and columns of `bounds` only, which hold all
    points: `depth` is the closed surface at the finer grid of the z-buffer, metres, infinite where there is none; `slope` its
    steepness, metres of depth per cell, at the pixels. `row` and `column` are each point's place in the finer grid of the whole
    image, `cell` its place among all cells of `depth`, and `point_depth` its depth, infinite if the point is not in its image.
    """

    image: Float32[Tensor, "image height width"]
    bounds: Bounds
    slope: Float32[Tensor, "image rows columns"]
    depth: Float32[Tensor, "image fine_rows fine_columns"]
    row: Int64[Tensor, " point"]
    column: Int64[Tensor, " point"]
    cell: Int64[Tensor, " point"]
    point_depth: Float32[Tensor, " point"]

    @property
    def surface_depth(self) -> Float32[Tensor, " point"]:
        """Depth of the closed surface in the cell of every point, metres."""
        return self.depth.flatten().index_select(0, self.cell)


def render(
    points: Float32[Tensor, "point 3"], image: Int64[Tensor, " point"], cameras: CameraBatch, settings: RenderSettings
) -> RenderedView:
    """Render world points (metres), each into its own image of the batch.

    Only the part of the images that holds points, with as much around it as closing gaps can reach, is worked on.
    """
    fine, size = settings.supersampling, settings.image_size
    bounds = cameras.bounds.grown(-(-max(cameras.splat_sizes) // fine), size)
    top, bottom, left, right = (edge * fine for edge in bounds)
    coordinates, depth = cameras.project(points, image)
    column, row = (coordinates * fine).floor().long().unbind(1)
    row, column = row.clamp_(top, bottom - 1), column.clamp_(left, right - 1)
    shape = (len(cameras.depth_range), bottom - top, right - left)
    cell = (image * shape[1] + (row - top)) * shape[2] + (column - left)
    closed = _close_each(nearest_depth(depth, cell, math.prod(shape)).view(shape), cameras.splat_sizes)
    shaded, slope = shade(_nearest_of_each(closed, fine), cameras, bounds.top)
    return RenderedView(
        image=F.pad(shaded, (bounds.left, size - bounds.right, bounds.top, size - bounds.bottom)),
        bounds=bounds,
        slope=slope / fine,
        depth=closed,
        row=row,
        column=column,
        cell=cell,
        point_depth=depth,
    )


def nearest_depth(depth: Float32[Tensor, " point"], cell: Int64[Tensor, " point"], num_cells: int) -> Float32[Tensor, " cell"]:
    """Depth of the nearest point of every cell, infinity where there is none: the z-buffer."""
    return torch.full((num_cells,), math.inf, device=depth.device).scatter_reduce_(0, cell, depth, "amin")


def _nearest_of_each(depth: Float32[Tensor, "image fine_rows fine_columns"], fine: int) -> Float32[Tensor, "image rows columns"]:
    """The smallest depth among the `fine` x `fine` cells of every pixel."""
    rows = reduce(torch.minimum, [depth[:, step::fine] for step in range(fine)])
    return reduce(torch.minimum, [rows[:, :, step::fine] for step in range(fine)])


def _close_each(depth: Float32[Tensor, "image height width"], sizes: tuple[int, ...]) -> Float32[Tensor, "image height width"]:
    """Close the gaps of every image with its own size, images of one size together."""
    if len(set(sizes)) == 1:
        return close_gaps(depth, sizes[0])
    closed = torch.empty_like(depth)
    for size in sorted(set(sizes)):
        chosen = upload(np.flatnonzero(np.array(sizes) == size), depth.device)
        closed[chosen] = close_gaps(depth[chosen], size)
    return closed


def close_gaps(depth: Float32[Tensor, "image height width"], size: int) -> Float32[Tensor, "image height width"]:
    """Grey-scale closing: each point spreads over an octagon `size` cells wide, then surfaces shrink back by as much.

    Gaps narrower than that are filled, while silhouettes stay and slanted surfaces keep their depth.
    """
    return _octagon(_octagon(depth, size, torch.minimum), size, torch.maximum)


def _octagon(
    values: Float32[Tensor, "image height width"], size: int, extreme: Callable[..., Tensor]
) -> Float32[Tensor, "image height width"]:
    """Extreme over an octagon `size` (odd) wide around each cell: squares of 3 and crosses of 3 in turn.

    Whole shifted images are compared, which is several times faster than pooling on a CPU.
    """
    for step in range(size // 2):
        across = _of_three(values, 2, extreme)
        values = _of_three(across, 1, extreme) if step % 2 == 0 else extreme(across, _of_three(values, 1, extreme))
    return values


def _of_three(
    values: Float32[Tensor, "image height width"], dim: int, extreme: Callable[..., Tensor]
) -> Float32[Tensor, "image height width"]:
    """Extreme of each cell and its two neighbours along an axis."""
    length = values.shape[dim]
    if length == 1:
        return values
    pairs = extreme(values.narrow(dim, 0, length - 1), values.narrow(dim, 1, length - 1))
    result = torch.empty_like(values)
    result.select(dim, 0).copy_(pairs.select(dim, 0))
    result.select(dim, length - 1).copy_(pairs.select(dim, length - 2))
    inner = result.narrow(dim, 1, length - 2)
    extreme(pairs.narrow(dim, 0, length - 2), pairs.narrow(dim, 1, length - 2), out=inner)
    return result


def shade(
    depth: Float32[Tensor, "image height width"], cameras: CameraBatch, first_row: int
) -> tuple[Float32[Tensor, "image height width"], Float32[Tensor, "image height width"]]:
    """Brightness of depth images cut from `first_row` on, and the steepness of their surfaces in metres of depth per pixel.

    Brightness is Lambert shading times a tone that falls from the nearest to the farthest depth of the sequence.
    """
    surface = torch.isfinite(depth)
    near, far = cameras.depth_range[:, 0, None, None], cameras.depth_range[:, 1, None, None]
    smooth = _smooth(depth, surface, far)
    columns, rows = cameras.pixels_per_metre(smooth, first_row)
    step_x, step_y = _step(smooth, surface, dim=2), _step(smooth, surface, dim=1)
    slope_x, slope_y = step_x * columns, step_y * rows
    lambert = (slope_x * LIGHT[0] + slope_y * LIGHT[1] - LIGHT[2]) * torch.rsqrt(slope_x * slope_x + slope_y * slope_y + 1)
    extent = torch.maximum(far - near, 1e-5 * far)  # not less, or rounding would show
    tone = 1 - ((smooth - near) * ((1 - FARTHEST_TONE) / extent)).clamp_(0, 1 - FARTHEST_TONE)
    brightness = tone * (AMBIENT + (1 - AMBIENT) * lambert.clamp_(0, 1)) * surface
    return brightness, torch.sqrt(step_x * step_x + step_y * step_y)


def _smooth(
    depth: Float32[Tensor, "image height width"], surface: Bool[Tensor, "image height width"], background: Float32[Tensor, "image 1 1"]
) -> Float32[Tensor, "image height width"]:
    """Mean over the surface pixels among a pixel and its eight neighbours: takes the grain of single points off the normals."""
    total, count = _sum_of_nine(torch.where(surface, depth, 0.0)), _sum_of_nine(surface.float())
    return torch.where(surface, total / count, background)


def _sum_of_nine(values: Float32[Tensor, "image height width"]) -> Float32[Tensor, "image height width"]:
    """Sum over each pixel and its eight neighbours."""
    padded = F.pad(values, (1, 1, 1, 1))
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]


def _step(
    depth: Float32[Tensor, "image height width"], surface: Bool[Tensor, "image height width"], dim: int
) -> Float32[Tensor, "image height width"]:
    """Depth change per pixel along an axis: the mean of the steps to the two neighbours, as far as those are surface."""
    length = depth.shape[dim] - 1
    valid = (surface.narrow(dim, 1, length) & surface.narrow(dim, 0, length)).float()
    step = depth.diff(dim=dim) * valid
    pad_after = (0, 1) if dim == 2 else (0, 0, 0, 1)
    pad_before = (1, 0) if dim == 2 else (0, 0, 1, 0)
    return (F.pad(step, pad_after) + F.pad(step, pad_before)) / (F.pad(valid, pad_after) + F.pad(valid, pad_before)).clamp_min_(1)
