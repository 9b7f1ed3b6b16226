"""A body: joints in a tree, primitives fixed to them, and the pose that joint angles give.

The body frame is x to the body's left, y up, z to its front, metres. A limb hangs along -y from its joint. Angles are anatomical
and in degrees: `flex` swings a hanging limb forward (bends a spine, neck or tail forward), `side` lifts a limb away from the body
(leans the rest to the body's right), `twist` turns it about its own axis (a limb outward, the rest to the left).
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Float32, Float64, Integer

from cross4d_cache.datasets.synthetic.primitives import PosedPrimitives, surface_positions

Number = float | int
"""A plain number; spelled out because checks at run time do not take an int for a float."""
Vector = tuple[Number, Number, Number]

SIDES = {"left": 1.0, "right": -1.0}
"""The two sides of a body and the sign of their x coordinate."""


@dataclass(frozen=True, kw_only=True)
class Body:
    """One subject: its joints (parents first; the first is the root) and the primitives in their joints' frames.

    `signs` turn (flex, side, twist) into rotations about (x, z, y). `stance` holds the angles of the rest pose, degrees.
    """

    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Float64[np.ndarray, "joint 3"]
    signs: Float64[np.ndarray, "joint 3"]
    stance: Float64[np.ndarray, "joint 3"]
    joints: Integer[np.ndarray, " primitive"]
    parts: Integer[np.ndarray, " primitive"]
    centres: Float64[np.ndarray, "primitive 3"]
    rotations: Float64[np.ndarray, "primitive 3 3"]
    radii: Float64[np.ndarray, "primitive 3"]
    half_lengths: Float64[np.ndarray, " primitive"]

    def pose(
        self, angles: Float64[np.ndarray, "frame joint 3"]
    ) -> tuple[Float64[np.ndarray, "frame joint 3"], Float64[np.ndarray, "frame joint 3 3"]]:
        """Joint positions, with the root at the origin, and joint rotations; `angles` are added to the stance, degrees."""
        local = _rotations((angles + self.stance) * self.signs)
        positions, rotations = np.zeros(local.shape[:3]), local.copy()
        for joint, parent in list(enumerate(self.parents))[1:]:
            positions[:, joint] = positions[:, parent] + rotations[:, parent] @ self.offsets[joint]
            rotations[:, joint] = rotations[:, parent] @ local[:, joint]
        return positions, rotations

    def primitives(
        self, positions: Float64[np.ndarray, "frame joint 3"], rotations: Float64[np.ndarray, "frame joint 3 3"]
    ) -> PosedPrimitives:
        """The primitives where the joints carry them, in the frame of the joints."""
        turned = rotations[:, self.joints]
        centres = positions[:, self.joints] + np.einsum("fpij,pj->fpi", turned, self.centres)
        return PosedPrimitives(
            centres=centres.astype(np.float32),
            rotations=(turned @ self.rotations).astype(np.float32),
            radii=self.radii.astype(np.float32),
            half_lengths=self.half_lengths.astype(np.float32),
        )

    def rest_positions(self, surface_ids: Integer[np.ndarray, " point"]) -> Float32[np.ndarray, "point 3"]:
        """Where surface patches lie in the rest pose: the centre of each patch, metres.

        The frame is the body's own, turned to OpenCV axes as if it faced the sensor: x to its left, y down, z to its back, the
        origin on the floor below the root joint.
        """
        rest = self.primitives(*self.pose(np.zeros((1, *self.offsets.shape))))
        found = surface_positions(rest, 0, surface_ids)
        found[:, 1] -= lowest(rest)[0]
        in_sensor_axes: Float32[np.ndarray, "point 3"] = (found * np.array([1.0, -1.0, -1.0])).astype(np.float32)
        return in_sensor_axes


def lowest(primitives: PosedPrimitives) -> Float32[np.ndarray, " frame"]:
    """Height of the lowest point in every frame, where y points up."""
    bottom: Float32[np.ndarray, "frame primitive"] = primitives.ends()[..., 1].min(axis=2) - primitives.extents()[..., 1]
    height: Float32[np.ndarray, " frame"] = bottom.min(axis=1)
    return height


def _rotations(angles: Float64[np.ndarray, "frame joint 3"]) -> Float64[np.ndarray, "frame joint 3 3"]:
    """Rotations Rx(first) Rz(second) Ry(third), angles in degrees."""
    cosine, sine = np.cos(np.radians(angles)), np.sin(np.radians(angles))
    (cx, cz, cy), (sx, sz, sy) = np.moveaxis(cosine, -1, 0), np.moveaxis(sine, -1, 0)
    rows = [
        [cz * cy, -sz, cz * sy],
        [cx * sz * cy + sx * sy, cx * cz, cx * sz * sy - sx * cy],
        [sx * sz * cy - cx * sy, sx * cz, sx * sz * sy + cx * cy],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


@dataclass(kw_only=True)
class BodyBuilder:
    """Collects joints and primitives; `part_names` numbers the part labels."""

    part_names: tuple[str, ...]
    joints: dict[str, tuple[int, Vector, Vector, Vector]] = field(default_factory=dict)
    shapes: list[tuple[str, str, Vector, Float[np.ndarray, "3 3"], Vector, Number]] = field(default_factory=list)

    def joint(self, name: str, parent: str | None, offset: Vector, *, stance: Vector = (0, 0, 0)) -> None:
        """Add a joint at `offset` in the frame of its parent, which must have been added before."""
        side = name.split("_")[0]
        limb = (-1.0, SIDES[side], SIDES[side]) if side in SIDES else (1.0, 1.0, 1.0)
        number = -1 if parent is None else list(self.joints).index(parent)
        self.joints[name] = (number, offset, limb, stance)

    def capsule(self, joint: str, part: str, start: Vector, end: Vector, radius: Number) -> None:
        """Add a capsule between two points of a joint's frame."""
        along = np.subtract(end, start)
        length = float(np.linalg.norm(along))
        axis = along / length
        # Any fixed direction across will do; the body's front, or its height where the capsule itself points to the front.
        helper = np.array([0.0, 0.0, 1.0]) if abs(axis[2]) < 0.8 else np.array([0.0, 1.0, 0.0])
        first = np.cross(helper, axis)
        first /= np.linalg.norm(first)
        frame = np.stack([first, np.cross(axis, first), axis], axis=1)
        x, y, z = (np.array(start) + end) / 2
        self.shapes.append((joint, part, (x, y, z), frame, (radius, radius, radius), length / 2))

    def ellipsoid(self, joint: str, part: str, centre: Vector, radii: Vector) -> None:
        """Add an ellipsoid with half axes along the joint's x, y and z; its longest is the z axis of its own frame."""
        order = [(int(np.argmax(radii)) + step) % 3 for step in (1, 2, 3)]
        sorted_radii: Vector = (radii[order[0]], radii[order[1]], radii[order[2]])
        self.shapes.append((joint, part, centre, np.eye(3)[:, order], sorted_radii, 0.0))

    def build(self) -> Body:
        """The finished body."""
        names = list(self.joints)
        parents, offsets, signs, stances = zip(*self.joints.values(), strict=True)
        joints, parts, centres, frames, radii, half_lengths = zip(*self.shapes, strict=True)
        return Body(
            joint_names=tuple(names),
            parents=parents,
            offsets=np.array(offsets, dtype=np.float64),
            signs=np.array(signs, dtype=np.float64),
            stance=np.array(stances, dtype=np.float64),
            joints=np.array([names.index(joint) for joint in joints]),
            parts=np.array([self.part_names.index(part) for part in parts]),
            centres=np.array(centres, dtype=np.float64),
            rotations=np.stack(frames),
            radii=np.array(radii, dtype=np.float64),
            half_lengths=np.array(half_lengths, dtype=np.float64),
        )
