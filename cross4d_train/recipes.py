"""Clip shape and pre-training length for each dataset, from the table of section 2 of the method."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Frames of a clip, points a frame, frame stride, epochs of pre-training, and part labels that are neither predicted nor scored."""

    num_frames: int
    num_points: int
    stride: int
    num_epochs: int
    ignored_parts: tuple[int, ...] = ()


RECIPES: dict[str, Recipe] = {
    "msr_action3d": Recipe(num_frames=24, num_points=2048, stride=1, num_epochs=100),
    "deforming_things4d": Recipe(num_frames=16, num_points=2048, stride=1, num_epochs=60),
    "ntu_rgbd": Recipe(num_frames=24, num_points=2048, stride=2, num_epochs=100),
    # 0 is `no label` and 1 `noise`; the official evaluation leaves both out.
    "hoi4d": Recipe(num_frames=24, num_points=2048, stride=1, num_epochs=60, ignored_parts=(0, 1)),
    "synthetic": Recipe(num_frames=24, num_points=2048, stride=1, num_epochs=30),
}

DEFAULT = Recipe(num_frames=24, num_points=2048, stride=1, num_epochs=60)


def recipe_for(dataset: str) -> Recipe:
    """The recipe of a dataset by its name, or the default for one that the method did not use."""
    return RECIPES.get(dataset, DEFAULT)
