"""Puts a moving body on the floor in front of the sensor: what touches the floor, where it stands and where it faces."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from cross4d_cache.datasets.synthetic.body import Body, lowest
from cross4d_cache.datasets.synthetic.motion import Motion
from cross4d_cache.datasets.synthetic.primitives import PosedPrimitives
from cross4d_cache.datasets.synthetic.sensor import Sensor

FACING = np.diag([1.0, -1.0, -1.0])
"""From the body frame (y up) to OpenCV axes (y down), for a body that faces the sensor."""


def place(body: Body, motion: Motion, sensor: Sensor, heading_range_degrees: float, rng: np.random.Generator) -> PosedPrimitives:
    """The primitives of a motion in sensor coordinates, metres.

    The body stands 2.5 to 3.5 m away on a floor about 1 m below the sensor, turned by up to `heading_range_degrees`. It stands
    further away where a part would otherwise leave the image, so nothing is ever cut off.
    """
    heading = np.radians(rng.uniform(-heading_range_degrees, heading_range_degrees))
    distance, sideways, floor = rng.uniform(2.5, 3.5), rng.uniform(-0.3, 0.3), rng.uniform(0.9, 1.1)
    positions, rotations = body.pose(motion.angles)
    positions = positions + _root(body, motion, positions, rotations)[:, None, :]
    cosine, sine = np.cos(heading), np.sin(heading)
    turn = FACING @ np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    posed = body.primitives(positions @ turn.T + np.array([sideways, floor, distance]), turn @ rotations)
    backward = np.array([0, 0, _missing_distance(posed, sensor)], dtype=np.float32)
    return replace(posed, centres=posed.centres + backward)


def _root(
    body: Body,
    motion: Motion,
    positions: Float64[np.ndarray, "frame joint 3"],
    rotations: Float64[np.ndarray, "frame joint 3 3"],
) -> Float64[np.ndarray, "frame 3"]:
    """Where the root must be for the planted joints to stay and the lowest point to be `lift` above the floor."""
    root = np.zeros((len(positions), 3))
    if motion.planted:
        held = [body.joint_names.index(name) for name in motion.planted]
        root -= positions[:, held].mean(axis=1)
    root[:, 2] += motion.travel
    root[:, 1] = motion.lift - lowest(body.primitives(positions, rotations))
    return root


def _missing_distance(primitives: PosedPrimitives, sensor: Sensor) -> float:
    """How much further away everything must be to lie inside the field of view with a pixel to spare, metres."""
    slope = sensor.half_width - 1.5 / sensor.focal
    ends, radius = primitives.ends(), primitives.radii.max(axis=1)[:, None]
    reach = np.abs(ends[..., :2]).max(axis=-1) + radius * np.sqrt(1 + slope**2)
    return max(float((reach / slope - ends[..., 2]).max()), 0.0)
