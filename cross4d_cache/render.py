"""Depth-shaded images of point clouds, whole batches of frames at once, on any device.

A z-buffer keeps the nearest point of every pixel, ties going to the point that comes first; a morphological closing fills the gaps
between points; depth and image-space normals become brightness (paper, section 3.1).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from cross4d_cache.camera import CameraBatch
from cross4d_cache.types import RenderSettings

LIGHT = (-0.4, -0.5, -0.77)
"""Direction towards the light in camera axes: from behind the viewer's left shoulder, so that slopes to all sides differ."""

INFINITY_BITS = 0x7F800000
"""The bit pattern of an infinite float32."""

AMBIENT = 0.3
FARTHEST_TONE = 0.45


@dataclass(frozen=True, kw_only=True)
class RenderedView:
    """Images of a batch, and where every point fell in its own.

    `image` is brightness in [0, 1], background 0. `depth` is the closed surface at the finer grid of the z-buffer, metres, infinite
    where there is none; `winner` is the number of the nearest point of a cell there, -1 for none. `slope` is the steepness of the
    surface, metres of depth per cell. `cell` is each point's cell in its image, counted row by row, `point_depth` its depth, which is
    infinite if the point is not in its image.
    """

    image: Float32[Tensor, "image height width"]
    slope: Float32[Tensor, "image height width"]
    depth: Float32[Tensor, "image fine_height fine_width"]
    winner: Int64[Tensor, "image fine_height fine_width"]
    cell: Int64[Tensor, " point"]
    point_depth: Float32[Tensor, " point"]


def render(
    points: Float32[Tensor, "point 3"], image: Int64[Tensor, " point"], cameras: CameraBatch, settings: RenderSettings
) -> RenderedView:
    """Render world points (metres), each into its own image of the batch.

    `image` says which; the order of the points of an image breaks ties.
    """
    fine = settings.supersampling
    side = settings.image_size * fine
    coordinates, depth = cameras.project(points, image)
    column, row = (coordinates * fine).floor().long().clamp_(0, side - 1).unbind(1)
    cell = row * side + column
    shape = (len(cameras.depth_range), side, side)
    nearest, winner = z_buffer(depth, image * side**2 + cell, math.prod(shape))
    closed = _close_each(nearest.view(shape), cameras.splat_sizes)
    shaded, slope = shade(-F.max_pool2d(-closed, fine) if fine > 1 else closed, cameras)
    return RenderedView(image=shaded, slope=slope / fine, depth=closed, winner=winner.view(shape), cell=cell, point_depth=depth)


def z_buffer(
    depth: Float32[Tensor, " point"], cell: Int64[Tensor, " point"], num_cells: int
) -> tuple[Float32[Tensor, " cell"], Int64[Tensor, " cell"]]:
    """Depth and number of the nearest point of every cell (infinity and -1 where there is none).

    Positive float32 numbers sort like their bit patterns, so depth and number packed into one integer give the minimum and a
    deterministic tie-break by a single scatter. Points at infinite depth do not count.
    """
    number = torch.arange(len(depth), device=depth.device)
    key = (depth.contiguous().view(torch.int32).long() << 32) | number
    infinite = INFINITY_BITS << 32
    best = torch.full((num_cells,), infinite, dtype=torch.int64, device=depth.device).scatter_reduce_(0, cell, key, "amin")
    return (best >> 32).int().view(torch.float32), (best & 0xFFFFFFFF).masked_fill(best == infinite, -1)


def _close_each(depth: Float32[Tensor, "image height width"], sizes: tuple[int, ...]) -> Float32[Tensor, "image height width"]:
    """Close the gaps of every image with its own size, images of one size together."""
    if len(set(sizes)) == 1:
        return close_gaps(depth, sizes[0])
    closed = torch.empty_like(depth)
    for size in sorted(set(sizes)):
        chosen = torch.tensor([number for number, other in enumerate(sizes) if other == size], device=depth.device)
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
        across = _with_neighbours(values, values, 2, extreme)
        values = _with_neighbours(across if step % 2 == 0 else values, across, 1, extreme)
    return values


def _with_neighbours(
    values: Float32[Tensor, "image height width"],
    start: Float32[Tensor, "image height width"],
    dim: int,
    extreme: Callable[..., Tensor],
) -> Float32[Tensor, "image height width"]:
    """Extreme of `start` and of the two neighbours of each cell in `values` along an axis."""
    result, length = start.clone(), values.shape[dim] - 1
    after, before = result.narrow(dim, 1, length), result.narrow(dim, 0, length)
    extreme(after, values.narrow(dim, 0, length), out=after)
    extreme(before, values.narrow(dim, 1, length), out=before)
    return result


def shade(
    depth: Float32[Tensor, "image height width"], cameras: CameraBatch
) -> tuple[Float32[Tensor, "image height width"], Float32[Tensor, "image height width"]]:
    """Brightness of depth images, and the steepness of their surfaces in metres of depth per pixel.

    Brightness is Lambert shading times a tone that falls from the nearest to the farthest depth of the sequence.
    """
    surface = torch.isfinite(depth)
    near, far = cameras.depth_range[:, 0, None, None], cameras.depth_range[:, 1, None, None]
    depth = torch.where(surface, depth, far)
    smooth = _smooth(depth, surface)
    columns, rows = cameras.pixels_per_metre(smooth)
    step_x, step_y = _step(smooth, surface, dim=2), _step(smooth, surface, dim=1)
    slope_x, slope_y = step_x * columns, step_y * rows
    lambert = (slope_x * LIGHT[0] + slope_y * LIGHT[1] - LIGHT[2]) / torch.sqrt(slope_x**2 + slope_y**2 + 1)
    tone = 1 - (1 - FARTHEST_TONE) * ((smooth - near) / (far - near).clamp_min(1e-12)).clamp(0, 1)
    brightness = torch.where(surface, tone * (AMBIENT + (1 - AMBIENT) * lambert.clamp(0, 1)), 0.0)
    return brightness, torch.sqrt(step_x**2 + step_y**2)


def _smooth(
    depth: Float32[Tensor, "image height width"], surface: Bool[Tensor, "image height width"]
) -> Float32[Tensor, "image height width"]:
    """Mean over the surface pixels among a pixel and its eight neighbours: takes the grain of single points off the normals."""
    weight = surface[:, None].float()
    total = F.avg_pool2d(depth[:, None] * weight, 3, stride=1, padding=1, divisor_override=1)
    count = F.avg_pool2d(weight, 3, stride=1, padding=1, divisor_override=1)
    return torch.where(surface, (total / count.clamp_min(1))[:, 0], depth)


def _step(
    depth: Float32[Tensor, "image height width"], surface: Bool[Tensor, "image height width"], dim: int
) -> Float32[Tensor, "image height width"]:
    """Depth change per pixel along an axis: the mean of the steps to the two neighbours, as far as those are surface."""
    step = depth.diff(dim=dim)
    valid = surface.narrow(dim, 1, step.shape[dim]) & surface.narrow(dim, 0, step.shape[dim])
    step = torch.where(valid, step, 0.0)
    pad_after = (0, 1) if dim == 2 else (0, 0, 0, 1)
    pad_before = (1, 0) if dim == 2 else (0, 0, 1, 0)
    count = F.pad(valid.float(), pad_after) + F.pad(valid.float(), pad_before)
    return (F.pad(step, pad_after) + F.pad(step, pad_before)) / count.clamp_min(1)
