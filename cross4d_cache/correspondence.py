"""Which patch of the image is a point's, and whether the point is seen there at all (paper, section 3.1)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from cross4d_cache.camera import CameraBatch
from cross4d_cache.render import RenderedView
from cross4d_cache.types import RenderSettings


@dataclass(frozen=True, kw_only=True)
class Correspondence:
    """Patch (counted row by row) of every point in its image, and whether the point is visible there; if not, the patch means nothing."""

    patch: Int64[Tensor, " point"]
    visible: Bool[Tensor, " point"]


def correspond(
    view: RenderedView, image: Int64[Tensor, " point"], cameras: CameraBatch, settings: RenderSettings, patch_size: int
) -> Correspondence:
    """Patch and visibility of the points that were rendered.

    A point in its image is visible if it lies no deeper than the closed surface of its cell plus the tolerance of `settings`.
    """
    fine = settings.supersampling
    side = settings.image_size * fine
    row, column = view.cell // side, view.cell % side
    cells_per_patch = patch_size * fine
    patch = row // cells_per_patch * (side // cells_per_patch) + column // cells_per_patch
    surface = view.depth.flatten(1)[image, view.cell]
    slope = view.slope.flatten(1)[image, row // fine * settings.image_size + column // fine]
    tolerance = cameras.tolerance(settings.depth_tolerance, view.point_depth, image)
    visible = torch.isfinite(view.point_depth) & (view.point_depth <= surface + tolerance + torch.minimum(slope / 2, tolerance))
    return Correspondence(patch=patch, visible=visible)


def hit_patches(
    patch: Int64[Tensor, " point"], visible: Bool[Tensor, " point"], tubelet: Int64[Tensor, " point"], num_tubelets: int, num_patches: int
) -> tuple[Bool[Tensor, "tubelet patch"], Int64[Tensor, " point"]]:
    """Patches that a visible point of the tubelet hits, and for every point the place of its patch among them (-1 if not visible)."""
    hit = torch.zeros(num_tubelets, num_patches, dtype=torch.bool, device=patch.device)
    hit[tubelet[visible], patch[visible]] = True
    slot = hit.long().cumsum(dim=1) - 1
    return hit, torch.where(visible, slot[tubelet, patch], -1)
