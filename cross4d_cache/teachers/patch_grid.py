"""Which numbers of a backbone's output belong to which patch of the image: seen from what it does, not believed of shapes."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from transformers import PretrainedConfig

from cross4d_cache.errors import TeacherError
from cross4d_cache.teachers.images import check_whole_patches

MOST_PREFIX_TOKENS = 16
"""Class and register tokens that may stand before the patches."""

PROBES = 6
"""Patches that are changed, one in each image."""

ROUNDING = 1e-3
"""Largest difference between two runs on one image, as a share of the largest feature, that is not held against a backbone."""

Run = Callable[[Float32[Tensor, "image height width"]], Tensor]
"""From grey images in [0, 1] to the last hidden state of a backbone."""


@dataclass(frozen=True, kw_only=True)
class PatchGrid:
    """A square grid of patches: tokens, `prefix` others before them; or a map, whose channels are axis `channel_axis`."""

    side: int
    channels: int
    prefix: int = 0
    channel_axis: int = 2

    def tokens(self, hidden: Float[Tensor, "image *rest"]) -> Float[Tensor, "image token channel"]:
        """The tokens of a last hidden state, those of patches last, row by row."""
        return hidden if hidden.ndim == 3 else hidden.movedim(self.channel_axis, 3).flatten(1, 2)


def find_grid(run: Run, image_size: int, config: PretrainedConfig, device: torch.device, *, check: bool) -> PatchGrid:
    """The grid in the output of a backbone. `check` asks for proof: see `_is_grid`.

    Raises:
        TeacherError: there is none, or the features of an image are not the same every time.
    """
    patch = patch_size(config)
    if patch is not None and not hasattr(config, "depths"):
        check_whole_patches(image_size, patch)
    with torch.inference_mode(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        shape = tuple(run(torch.zeros(1, image_size, image_size, device=device)).shape)
        grids = _possible_grids(shape, image_size, patch)
        found = next((grid for grid in grids if not check or _is_grid(run, grid, image_size, config, device)), None)
    if found is None:
        raise TeacherError(
            f"a model of type {config.model_type!r} gives features of shape {shape[1:]} for images of {image_size} px, and none of a "
            "grid of patches in which each follows its own place of the image",
            expected="tokens of patches, row by row, behind class and register tokens; or a feature map",
            hint="pass another `teacher.image_size`, or choose another image backbone",
        )
    return found


def patch_size(config: PretrainedConfig) -> int | None:
    """Side of the patches that a configuration names, px."""
    patch = getattr(config, "patch_size", None)
    if isinstance(patch, (list, tuple)):
        patch = patch[0] if len(set(patch)) == 1 else None
    return patch if isinstance(patch, int) and patch > 0 else None


def _possible_grids(shape: tuple[int, ...], image_size: int, patch: int | None) -> list[PatchGrid]:
    """The ways to read the last hidden state of one image."""
    if len(shape) == 4:
        maps = [PatchGrid(side=shape[2], channels=shape[1], channel_axis=1)] if shape[2] == shape[3] else []
        maps += [PatchGrid(side=shape[1], channels=shape[3], channel_axis=3)] if shape[1] == shape[2] else []
        return [grid for grid in maps if image_size % grid.side == 0]
    if len(shape) != 3 or shape[1] == 0:
        return []
    tokens, side = shape[1], image_size // patch if patch else 0
    if not 0 < side * side <= tokens:
        side = math.isqrt(tokens)  # pyramids end coarser than their first patches, with nothing in front
    prefix = tokens - side * side
    return [] if prefix > MOST_PREFIX_TOKENS or image_size % side else [PatchGrid(side=side, channels=shape[2], prefix=prefix)]


def _is_grid(run: Run, grid: PatchGrid, image_size: int, config: PretrainedConfig, device: torch.device) -> bool:
    """Whether most changes of one patch of the image are seen at its place: see `_own_most`, and `_centred` for pyramids and maps.

    Tokens are compared with themselves under the other changes, so that global attention, and tokens that answer to everything, are
    not held against a model.
    """
    plain = grid.channel_axis == 2 and grid.side * (patch_size(config) or 0) == image_size
    if plain and getattr(config, "hidden_size", None) not in (None, grid.channels):
        return False
    places = _places(grid.side)
    images = _probes(image_size, grid.side, places).to(device)
    hidden = run(images)
    if hidden.shape[0] != len(images):
        return False  # it joins the images of a batch
    tokens = grid.tokens(hidden).float()
    again = grid.tokens(run(images[:1])).float()
    if (again - tokens[:1]).abs().max() > ROUNDING * tokens[0].abs().max():
        raise _unsteady(config)
    patches = tokens[:, grid.prefix :]
    if torch.equal(patches[1:], patches[:1].expand_as(patches[1:])):
        raise TeacherError(
            f"a model of type {config.model_type!r} gives the same features whatever the image shows",
            expected="weights that were trained",
            hint="pass other weights",
        )
    change = (patches[1:] - patches[:1]).norm(dim=-1) / patches[:1].norm(dim=-1).clamp(min=1e-12)
    change = change.cpu()
    hits = _own_most(change, places) if plain else _centred(change, places, grid.side)
    return 2 * hits > len(places) or grid.side == 1


def _own_most(change: Float32[Tensor, "probe patch"], places: Int64[Tensor, " probe"]) -> int:
    """How many changes move the token of their own patch most, beyond what other changes do to the same token."""
    found = (change - change.median(dim=0).values).argmax(dim=1)
    return int((found == places).sum())


def _centred(change: Float32[Tensor, "probe patch"], places: Int64[Tensor, " probe"], side: int) -> int:
    """How many places, in larger grids with their neighbours, answer to their own change more than to any other."""
    radius = 1 if side > 4 else 0
    cells = torch.stack([torch.arange(side * side) // side, torch.arange(side * side) % side], dim=1)
    near = ((cells[places, None] - cells[None]).abs().amax(dim=-1) <= radius).float()
    answers = (change / change.mean(dim=1, keepdim=True)) @ (near / near.sum(dim=1, keepdim=True)).mT
    return int((answers.argmax(dim=0) == torch.arange(len(places))).sum())


def _places(side: int) -> Int64[Tensor, " probe"]:
    """Some patches off the diagonal, where a grid read with rows for columns would be found out."""
    patches = torch.randperm(side * side, generator=torch.Generator().manual_seed(0))
    chosen = patches[patches // side != patches % side]
    return (chosen if side > 1 else patches)[:PROBES]


def _probes(image_size: int, side: int, places: Int64[Tensor, " probe"]) -> Float32[Tensor, "image height width"]:
    """An image of noise, a few shades in each patch, and the same with one patch inverted, for each of some patches."""
    noise = torch.rand(1, 1, 2 * side, 2 * side, generator=torch.Generator().manual_seed(1))
    base = torch.nn.functional.interpolate(noise, size=(image_size, image_size))[0, 0]
    size = image_size // side
    images = [base]
    for place in places.tolist():
        row, column = place // side * size, place % side * size
        changed = base.clone()
        changed[row : row + size, column : column + size] = 1 - changed[row : row + size, column : column + size]
        images.append(changed)
    return torch.stack(images)


def _unsteady(config: PretrainedConfig) -> TeacherError:
    found = f"a model of type {config.model_type!r} gives other features of the same image every time, or in another batch"
    if config.model_type == "vit_mae":
        return TeacherError(
            f"{found}: it hides most patches and shuffles the others, at random",
            expected="an encoder that sees every patch, in order",
            hint="make a ViT of its encoder, which has the same weights: ViTModel.from_pretrained(FOLDER).save_pretrained(OTHER); "
            "copy preprocessor_config.json, and pass OTHER",
        )
    return TeacherError(found, expected="features that follow from the image alone", hint="choose another image backbone")
