"""The surfaces of capsules and ellipsoids as triangles."""

import numpy as np
from jaxtyping import Float64, Int64

from cross4d_cache.datasets.mesh import Mesh
from cross4d_cache.datasets.synthetic.primitives import PosedPrimitives

SECTORS = 72
"""Around the z axis of a primitive: the triangles cut at most 0.1 % of a radius off."""
RINGS = 24
"""From a pole to the equator."""


def body_mesh(primitives: PosedPrimitives, frame: int) -> Mesh:
    """The surfaces of all primitives in one frame, those parts included that lie inside others."""
    directions, sides, faces = _unit_sphere()
    # An ellipsoid is a scaled sphere; a capsule is one whose halves are moved apart, the strip between two equators becomes its side.
    local = directions * primitives.radii[:, None, :].astype(np.float64)
    local[..., 2] += sides * primitives.half_lengths[:, None]
    vertices = np.einsum("pij,pvj->pvi", primitives.rotations[frame].astype(np.float64), local) + primitives.centres[frame][:, None]
    first = np.arange(len(vertices)) * vertices.shape[1]
    return Mesh(
        vertices=vertices.reshape(-1, 3).astype(np.float32),
        triangles=(faces[None] + first[:, None, None]).reshape(-1, 3),
    )


def _unit_sphere() -> tuple[Float64[np.ndarray, "vertex 3"], Float64[np.ndarray, " vertex"], Int64[np.ndarray, "triangle 3"]]:
    """Points of rings from pole to pole with the equator twice, the half (+1 or -1) that each belongs to, and the triangles between."""
    polar = np.linspace(0, np.pi / 2, RINGS + 1)
    polar = np.concatenate([polar, np.pi - polar[::-1]])
    azimuth = np.arange(SECTORS) * (2 * np.pi / SECTORS)
    ring, turn = (grid.ravel() for grid in np.meshgrid(polar, azimuth, indexing="ij"))
    directions = np.stack([np.sin(ring) * np.cos(turn), np.sin(ring) * np.sin(turn), np.cos(ring)], axis=1)
    sides = np.repeat([1.0, -1.0], (RINGS + 1) * SECTORS)
    row, column = (grid.ravel() for grid in np.meshgrid(np.arange(len(polar) - 1), np.arange(SECTORS), indexing="ij"))
    here, beside = row * SECTORS + column, row * SECTORS + (column + 1) % SECTORS
    below, across = here + SECTORS, beside + SECTORS
    faces = np.concatenate([np.stack([here, below, beside], axis=1), np.stack([beside, below, across], axis=1)])
    return directions, sides, faces
