"""What pictures of clips are made of: features of points as colours, and points seen from the sensor."""

import matplotlib
import numpy as np
import torch
from jaxtyping import Float32, Shaped
from matplotlib.axes import Axes
from torch import Tensor

from cross4d_train.report.colours import principal_colours

matplotlib.use("Agg")


def colours_of_groups(groups: list[Float32[Tensor, "point channel"]]) -> list[Float32[np.ndarray, "point 3"]]:
    """One colour space for all groups."""
    colours = principal_colours(torch.cat(groups)).numpy()
    return np.split(colours, np.cumsum([len(group) for group in groups])[:-1])


def scatter(axis: Axes, points: Float32[np.ndarray, "point 3"], colours: Shaped[np.ndarray, "point ..."]) -> None:
    """Points seen from the sensor, the nearest on top."""
    order = np.argsort(-points[:, 2])
    axis.scatter(points[order, 0], -points[order, 1], c=colours[order], s=3, linewidths=0)
    axis.set_aspect("equal")
