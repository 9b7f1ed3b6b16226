"""Points fixed to the surface of a mesh: where they sit is chosen once, so each is one piece of surface in every frame."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from cross4d_cache.errors import DatasetError


@dataclass(frozen=True)
class SurfaceSamples:
    """Sample `i` sits at `weights[i]` (barycentric, summing to 1) of the corners of a triangle, the vertices `corners[i]`."""

    corners: Int64[np.ndarray, "sample 3"]
    weights: Float32[np.ndarray, "sample 3"]

    @property
    def nearest_vertices(self) -> Int64[np.ndarray, " sample"]:
        """The vertex with the largest weight: which vertex a sample stands for, where correspondence is asked between vertices."""
        chosen = self.weights.argmax(axis=1)[:, None]
        nearest: Int64[np.ndarray, " sample"] = np.take_along_axis(self.corners, chosen, axis=1)[:, 0]
        return nearest

    def place(self, vertices: Float32[np.ndarray, "vertex 3"]) -> Float32[np.ndarray, "sample 3"]:
        """Where the samples are when the vertices are here."""
        with np.errstate(all="ignore"):  # damaged files hold any number; what is not finite is refused later
            placed: Float32[np.ndarray, "sample 3"] = np.einsum("sc,scx->sx", self.weights, vertices[self.corners])
        return placed


def sample_surface(
    vertices: Float32[np.ndarray, "vertex 3"], triangles: Int64[np.ndarray, "triangle 3"], count: int, rng: np.random.Generator
) -> SurfaceSamples:
    """`count` samples, uniform by area.

    Raises:
        DatasetError: the triangles have no area that could be measured.
    """
    with np.errstate(all="ignore"):
        a, b, c = vertices[triangles].astype(np.float64).transpose(1, 0, 2)
        areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
        total = areas.sum()
    if not np.isfinite(total) or total <= 0:
        raise DatasetError(f"its triangles have an area of {total}", expected="a surface of finite area")
    cumulative = np.cumsum(areas / total)
    chosen = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right").clip(max=len(triangles) - 1)
    # The square root makes points uniform over a triangle (Osada et al. 2002, section 4.2).
    across, along = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - across, across * (1 - along), across * along], axis=1)
    return SurfaceSamples(triangles[chosen], weights.astype(np.float32))
