"""Points that someone else unprojected with other intrinsics than the sensor's."""

import numpy as np
from jaxtyping import Float32, Shaped

from cross4d_cache.datasets.depth_image import Pinhole


def change_pinhole(points: Shaped[np.ndarray, "point 3"], used: Pinhole, true: Pinhole) -> Float32[np.ndarray, "point 3"]:
    """The points that the same pixels and depths give with the true intrinsics; any unit.

    Computed in float64: the pixel of a point, `used.fx * x / z + used.cx`, is put into `unproject`'s formula, and z cancels out.
    """
    with np.errstate(all="ignore"):  # damaged files hold any number
        x, y, z = points.astype(np.float64).T
        x = (used.fx * x + (used.cx - true.cx) * z) / true.fx
        y = (used.fy * y + (used.cy - true.cy) * z) / true.fy
        return np.stack([x, y, z], axis=1).astype(np.float32)
