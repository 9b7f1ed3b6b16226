"""Triangle meshes: the true surface, where a dataset knows it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """The surface of one frame, in the coordinates of its points: metres, OpenCV axes."""

    vertices: Float32[np.ndarray, "vertex 3"]
    triangles: Int64[np.ndarray, "triangle 3"]
