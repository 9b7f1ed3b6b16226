"""Capsules and ellipsoids in motion, and the identity of the patches of their surface.

One record serves both shapes: an ellipsoid has a half length of zero, a capsule is the sphere of its radius swept along its own
z axis. Surface patches are counted in the shape's own frame, so a patch keeps its number while the body moves.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64, Integer, UInt32

NUM_AXIAL_BINS = 32
"""Slices of equal height along the z axis of a primitive."""
NUM_AZIMUTH_BINS = 32
"""Sectors around the z axis of a primitive."""


@dataclass(frozen=True, kw_only=True)
class PosedPrimitives:
    """The primitives of one body in every frame of a sequence, metres.

    Columns of `rotations` are the axes of the primitive's own frame. `radii` are the half axes of an ellipsoid; a capsule has
    three equal ones. `half_lengths` is half the distance between the two end spheres of a capsule, zero for an ellipsoid.
    """

    centres: Float32[np.ndarray, "frame primitive 3"]
    rotations: Float32[np.ndarray, "frame primitive 3 3"]
    radii: Float32[np.ndarray, "primitive 3"]
    half_lengths: Float32[np.ndarray, " primitive"]

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.centres)

    def window(self, start: int, stop: int) -> "PosedPrimitives":
        """The frames from `start` up to `stop`."""
        return PosedPrimitives(
            centres=self.centres[start:stop],
            rotations=self.rotations[start:stop],
            radii=self.radii,
            half_lengths=self.half_lengths,
        )

    def ends(self) -> Float32[np.ndarray, "frame primitive 2 3"]:
        """The centres of both end spheres; an ellipsoid has its own centre twice."""
        reach = self.rotations[..., 2] * self.half_lengths[:, None]
        return np.stack([self.centres - reach, self.centres + reach], axis=2)

    def capsules(self, frame: int) -> tuple[Float32[np.ndarray, "capsule 2 3"], Float32[np.ndarray, " capsule"]]:
        """The end points and the radii of all capsules in one frame, metres."""
        chosen = self.half_lengths > 0
        return self.ends()[frame][chosen], self.radii[chosen, 0]

    def ellipsoids(
        self, frame: int
    ) -> tuple[Float32[np.ndarray, "ellipsoid 3"], Float32[np.ndarray, "ellipsoid 3 3"], Float32[np.ndarray, "ellipsoid 3"]]:
        """The centres, the rotations (columns are the axes) and the half axes of all ellipsoids in one frame, metres."""
        chosen = self.half_lengths == 0
        return self.centres[frame][chosen], self.rotations[frame][chosen], self.radii[chosen]

    def extents(self) -> Float32[np.ndarray, "frame primitive 3"]:
        """How far the surface reaches from the end spheres' centres along the axes of the world, metres."""
        spread = np.square(self.rotations) * np.square(self.radii)[:, None, :]
        reach: Float32[np.ndarray, "frame primitive 3"] = np.sqrt(spread.sum(axis=-1))
        return reach


def surface_ids(
    primitives: PosedPrimitives,
    points: Float32[np.ndarray, "point 3"],
    frames: Int64[np.ndarray, " point"],
    owners: Int64[np.ndarray, " point"],
) -> UInt32[np.ndarray, " point"]:
    """The patch number of points on the surface: `primitive * 1024 + axial bin * 32 + azimuth bin`.

    `owners` is the primitive that each point lies on; points are in the frame of the primitives, metres.
    """
    flat = frames * len(primitives.radii) + owners
    # In these units a primitive is a unit circle across, and its height is the number of axial bins.
    units = np.concatenate([primitives.radii[:, :2], _half_heights(primitives)[:, None] * (2 / NUM_AXIAL_BINS)], axis=1)
    axes = (primitives.rotations / units[:, None, :]).astype(np.float32).reshape(-1, 3, 3).take(flat, axis=0)
    offsets = points - primitives.centres.reshape(-1, 3).take(flat, axis=0)
    local = np.einsum("pi,pij->pj", offsets, axes)
    axial = (local[:, 2] + NUM_AXIAL_BINS / 2).astype(np.int32).clip(0, NUM_AXIAL_BINS - 1)
    turns = np.arctan2(local[:, 1], local[:, 0]) / np.float32(2 * np.pi)
    azimuth = np.floor(turns * NUM_AZIMUTH_BINS).astype(np.int32) % NUM_AZIMUTH_BINS
    ids = (owners.astype(np.int32) * NUM_AXIAL_BINS + axial) * NUM_AZIMUTH_BINS + azimuth
    patches: UInt32[np.ndarray, " point"] = ids.astype(np.uint32)
    return patches


def surface_positions(primitives: PosedPrimitives, frame: int, ids: Integer[np.ndarray, " point"]) -> Float[np.ndarray, "point 3"]:
    """The centres of surface patches in one frame, metres, in the frame of the primitives."""
    patches, azimuth = np.divmod(ids.astype(np.int64), NUM_AZIMUTH_BINS)
    owners, axial = np.divmod(patches, NUM_AXIAL_BINS)
    radii, half = primitives.radii[owners], primitives.half_lengths[owners]
    height = _half_heights(primitives)[owners] * ((axial + 0.5) * (2 / NUM_AXIAL_BINS) - 1)
    beyond = np.maximum(np.abs(height) - half, 0) / radii[:, 2]
    ring = np.sqrt(1 - np.square(beyond))
    angle = (azimuth + 0.5) * (2 * np.pi / NUM_AZIMUTH_BINS)
    local = np.stack([radii[:, 0] * ring * np.cos(angle), radii[:, 1] * ring * np.sin(angle), height], axis=1)
    turned: Float[np.ndarray, "point 3"] = np.einsum("pij,pj->pi", primitives.rotations[frame][owners], local)
    turned += primitives.centres[frame][owners]
    return turned


def _half_heights(primitives: PosedPrimitives) -> Float32[np.ndarray, " primitive"]:
    """From the centre to the end of the surface along the primitive's own z axis, metres."""
    total: Float32[np.ndarray, " primitive"] = primitives.half_lengths + primitives.radii[:, 2]
    return total
