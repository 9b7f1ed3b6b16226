"""Which patch of the image is a point's, and whether the point is seen there at all (paper, section 3.1)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from cross4d_cache.rendering.projection import CameraBatch
from cross4d_cache.rendering.render import RenderedView
from cross4d_cache.types import RenderSettings

INFINITY_BITS = 0x7F800000
"""The bit pattern of an infinite float32."""


@dataclass(frozen=True, kw_only=True)
class Correspondence:
    """Patch (counted row by row) of every point in its image, and whether the point is visible there; if not, the patch means nothing."""

    patch: Int64[Tensor, " point"]
    visible: Bool[Tensor, " point"]


def correspond(
    view: RenderedView,
    image: Int64[Tensor, " point"],
    cameras: CameraBatch,
    settings: RenderSettings,
    patch_size: int,
    *,
    shift: int = 0,
) -> Correspondence:
    """Patch and visibility of the points that were rendered; see `RenderSettings` for what is visible.

    A patch is looked up `shift` pixels to the right of its point, at most at the edge of the image.
    """
    fine = settings.supersampling
    per_side = settings.image_size // patch_size
    cells_per_patch = patch_size * fine
    column = (view.column + shift * fine).clamp_max(settings.image_size * fine - 1) if shift else view.column
    patch = view.row // cells_per_patch * per_side + column // cells_per_patch
    visible = _on_surface(view, image, cameras, settings) if settings.visibility == "surface" else _win_pixels(view, image, settings)
    return Correspondence(patch=patch, visible=visible)


def _on_surface(
    view: RenderedView, image: Int64[Tensor, " point"], cameras: CameraBatch, settings: RenderSettings
) -> Bool[Tensor, " point"]:
    """Whether each point lies no deeper than the closed surface of its cell plus the tolerance."""
    fine, (_, rows, columns) = settings.supersampling, view.slope.shape
    pixel = (image * rows + (view.row // fine - view.bounds.top)) * columns + (view.column // fine - view.bounds.left)
    slope = view.slope.flatten().index_select(0, pixel)
    tolerance = cameras.tolerance(settings.depth_tolerance, view.point_depth, image)
    behind = view.point_depth - view.surface_depth
    return torch.isfinite(view.point_depth) & (behind <= tolerance + torch.minimum(slope / 2, tolerance))


def _win_pixels(view: RenderedView, image: Int64[Tensor, " point"], settings: RenderSettings) -> Bool[Tensor, " point"]:
    """Whether each point is the nearest of its pixel."""
    fine, size = settings.supersampling, settings.image_size
    pixel = (image * size + view.row // fine) * size + view.column // fine
    winner = winners(view.point_depth, pixel, len(view.image) * size**2)
    return winner.index_select(0, pixel) == torch.arange(len(pixel), device=pixel.device)


def winners(depth: Float32[Tensor, " point"], place: Int64[Tensor, " point"], num_places: int) -> Int64[Tensor, " place"]:
    """Number of the nearest point of every place, the first of equally near ones; -1 where there is none.

    Positive float32 numbers sort like their bit patterns, so depth and number packed into one integer give the minimum and a
    deterministic tie-break by a single scatter. Points at infinite depth do not count.
    """
    number = torch.arange(len(depth), device=depth.device)
    key = (depth.contiguous().view(torch.int32).long() << 32) | number
    none = INFINITY_BITS << 32
    best = torch.full((num_places,), none, dtype=torch.int64, device=depth.device).scatter_reduce_(0, place, key, "amin")
    return torch.where(best >= none, -1, best & 0xFFFFFFFF)


def hit_patches(
    patch: Int64[Tensor, " point"], visible: Bool[Tensor, " point"], tubelet: Int64[Tensor, " point"], num_tubelets: int, num_patches: int
) -> tuple[Bool[Tensor, "tubelet patch"], Int64[Tensor, " point"]]:
    """Patches that a visible point of the tubelet hits, and for every point the place of its patch among them (-1 if not visible)."""
    key = tubelet * num_patches + patch
    # One place more takes the points that are not visible: choosing the others would have the device wait for the count.
    hit = torch.zeros(num_tubelets * num_patches + 1, dtype=torch.bool, device=patch.device)
    hit.index_fill_(0, torch.where(visible, key, num_tubelets * num_patches), True)
    hit = hit[:-1].unflatten(0, (num_tubelets, num_patches))
    slot = hit.long().cumsum(dim=1) - 1
    return hit, torch.where(visible, slot.flatten().index_select(0, key), -1)
