"""Where a token is: about its clip's centroid and middle frame, so that it does not matter where the sensor stood."""

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

METRES_PER_FRAME = 0.1
"""How far apart consecutive frames lie on the time axis unless an encoder's configuration says otherwise."""


def places(
    points: Float32[Tensor, "batch frame point 3"],
    centroids: Float32[Tensor, "batch token 3"],
    frame: Int64[Tensor, "batch token"],
    metres_per_frame: float = METRES_PER_FRAME,
) -> Float32[Tensor, "batch token 4"]:
    """Position and time of points that belong to frames of a clip, metres; `points` are those of the whole clip."""
    middle = (points.shape[1] - 1) / 2
    time = (frame - middle).unsqueeze(-1) * metres_per_frame
    return torch.cat([centroids - points.mean(dim=(1, 2)).unsqueeze(1), time], dim=-1)
