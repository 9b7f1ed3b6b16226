"""Triangle meshes: the true surface, where a dataset knows it."""

from dataclasses import dataclass
from types import ModuleType

import numpy as np
from jaxtyping import Float32, Int64

from cross4d_cache.installed import needed


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """The surface of one frame, in the coordinates of its points: metres, OpenCV axes."""

    vertices: Float32[np.ndarray, "vertex 3"]
    triangles: Int64[np.ndarray, "triangle 3"]


def import_open3d() -> ModuleType:
    """Open3D, which the extra `mesh` installs: it is large, and many clusters have no wheel of it.

    Raises:
        SettingsError: it is not installed, or lacks a system library.
    """
    with needed("Open3D", "casts rays at meshes", "pip install 'cross4d[mesh]'; it needs the system library libusb-1.0-0"):
        import open3d
    module: ModuleType = open3d
    return module
