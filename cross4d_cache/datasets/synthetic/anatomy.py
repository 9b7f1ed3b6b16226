"""Random people and four-legged animals: the proportions that make a subject.

Both share one list of parts. Corresponding parts have one name: the front leg of an animal is an upper arm, a lower arm and a hand,
its hind leg a thigh, a shin and a foot, as in comparative anatomy.
"""

from math import cos, radians

import numpy as np

from cross4d_cache.datasets.synthetic.body import SIDES, Body, BodyBuilder, Number, Vector

LIMB_PARTS = ("upper_arm", "lower_arm", "hand", "thigh", "shin", "foot")
PART_NAMES = (
    *("head", "neck", "torso", "pelvis", "tail"),
    *(f"{side}_{part}" for side in SIDES for part in LIMB_PARTS),
)


def human_body(rng: np.random.Generator) -> Body:
    """A person of 1.5 to 1.95 m with its own lengths of limbs and girth."""
    height = rng.uniform(1.5, 1.95)
    girth = height * rng.uniform(0.85, 1.25)
    trunk, arm, leg, hips, shoulders = rng.uniform(0.92, 1.08, size=5) * height
    head = height * rng.uniform(0.95, 1.08)
    builder = BodyBuilder(part_names=PART_NAMES)
    builder.joint("pelvis", None, (0, 0, 0))
    builder.ellipsoid("pelvis", "pelvis", (0, 0, 0), (0.062 * girth + 0.033 * hips, 0.07 * trunk, 0.066 * girth))
    builder.joint("spine", "pelvis", (0, 0.045 * trunk, 0))
    builder.ellipsoid("spine", "torso", (0, 0.05 * trunk, 0.004 * girth), (0.08 * girth, 0.1 * trunk, 0.062 * girth))
    builder.joint("chest", "spine", (0, 0.1 * trunk, 0))
    builder.ellipsoid("chest", "torso", (0, 0.05 * trunk, 0), (0.06 * girth + 0.038 * shoulders, 0.115 * trunk, 0.066 * girth))
    builder.capsule("chest", "torso", (-0.085 * shoulders, 0.12 * trunk, 0), (0.085 * shoulders, 0.12 * trunk, 0), 0.04 * girth)
    builder.joint("neck", "chest", (0, 0.15 * trunk, 0))
    builder.capsule("neck", "neck", (0, 0, 0), (0, 0.05 * trunk, 0.008 * head), 0.033 * girth)
    builder.joint("head", "neck", (0, 0.045 * trunk, 0.01 * head))
    builder.ellipsoid("head", "head", (0, 0.065 * head, 0.005 * head), (0.044 * head, 0.067 * head, 0.054 * head))
    builder.ellipsoid("head", "head", (0, 0.05 * head, 0.058 * head), (0.009 * head, 0.018 * head, 0.014 * head))
    for side, sign in SIDES.items():
        _human_arm(builder, side, (sign * 0.112 * shoulders, 0.12 * trunk, 0), arm, girth)
        _human_leg(builder, side, (sign * 0.052 * hips, -0.015 * trunk, 0), leg, girth)
    return builder.build()


def _human_arm(builder: BodyBuilder, side: str, shoulder: Vector, length: Number, girth: Number) -> None:
    upper, lower, hand = (f"{side}_{part}" for part in ("upper_arm", "lower_arm", "hand"))
    builder.joint(upper, "chest", shoulder, stance=(0, 9, 0))
    builder.capsule(upper, upper, (0, 0, 0), (0, -0.165 * length, 0), 0.026 * girth)
    builder.ellipsoid(upper, upper, (0, -0.07 * length, 0), (0.031 * girth, 0.085 * length, 0.036 * girth))
    builder.joint(lower, upper, (0, -0.17 * length, 0), stance=(12, 0, 0))
    builder.capsule(lower, lower, (0, 0, 0), (0, -0.145 * length, 0), 0.02 * girth)
    builder.ellipsoid(lower, lower, (0, -0.05 * length, 0), (0.026 * girth, 0.06 * length, 0.028 * girth))
    builder.joint(hand, lower, (0, -0.15 * length, 0))
    builder.ellipsoid(hand, hand, (0, -0.045 * length, 0), (0.014 * girth, 0.055 * length, 0.026 * girth))


def _human_leg(builder: BodyBuilder, side: str, hip: Vector, length: Number, girth: Number) -> None:
    thigh, shin, foot = (f"{side}_{part}" for part in ("thigh", "shin", "foot"))
    builder.joint(thigh, "pelvis", hip, stance=(0, 3, 0))
    builder.capsule(thigh, thigh, (0, 0, 0), (0, -0.24 * length, 0), 0.036 * girth)
    builder.ellipsoid(thigh, thigh, (0, -0.085 * length, 0), (0.051 * girth, 0.14 * length, 0.056 * girth))
    builder.joint(shin, thigh, (0, -0.245 * length, 0))
    builder.capsule(shin, shin, (0, 0, 0), (0, -0.235 * length, 0), 0.026 * girth)
    builder.ellipsoid(shin, shin, (0, -0.08 * length, -0.01 * girth), (0.034 * girth, 0.1 * length, 0.038 * girth))
    builder.joint(foot, shin, (0, -0.24 * length, 0), stance=(0, -3, 0))
    builder.capsule(foot, foot, (0, -0.016 * length, -0.02 * length), (0, -0.02 * length, 0.1 * length), 0.023 * girth)


def animal_body(rng: np.random.Generator) -> Body:
    """A four-legged animal, 0.75 to 1.15 m high at the shoulder: between a large dog and a pony."""
    height = rng.uniform(0.75, 1.15)
    girth = height * rng.uniform(0.85, 1.2)
    length = height * rng.uniform(0.9, 1.25)
    neck, head, tail = np.array([0.36, 0.32, 0.5]) * rng.uniform(0.75, 1.25, size=3) * height
    ear = height * rng.uniform(0.05, 0.12)
    hip = height * rng.uniform(0.9, 0.97)
    builder = BodyBuilder(part_names=PART_NAMES)
    builder.joint("pelvis", None, (0, 0, 0))
    builder.ellipsoid("pelvis", "pelvis", (0, -0.03 * height, 0), (0.14 * girth, 0.17 * girth, 0.2 * height))
    builder.joint("spine", "pelvis", (0, 0, 0.35 * length))
    builder.ellipsoid("spine", "torso", (0, -0.06 * height, 0), (0.15 * girth, 0.16 * girth, 0.36 * length))
    builder.joint("chest", "spine", (0, 0, 0.35 * length))
    builder.ellipsoid("chest", "torso", (0, -0.08 * height, 0), (0.145 * girth, 0.2 * girth, 0.23 * height))
    builder.joint("neck", "chest", (0, 0.03 * height, 0.1 * height), stance=(-48, 0, 0))
    builder.capsule("neck", "neck", (0, 0, 0), (0, 0, neck), 0.07 * girth)
    builder.ellipsoid("neck", "neck", (0, -0.02 * height, 0.25 * neck), (0.085 * girth, 0.12 * girth, 0.5 * neck))
    builder.joint("head", "neck", (0, 0, neck), stance=(68, 0, 0))
    builder.ellipsoid("head", "head", (0, 0, 0.2 * head), (0.075 * girth, 0.09 * girth, 0.45 * head))
    builder.capsule("head", "head", (0, -0.02 * head, 0.4 * head), (0, -0.06 * head, 0.85 * head), 0.048 * girth)
    builder.joint("tail", "pelvis", (0, 0.06 * height, -0.18 * height), stance=(-50, 0, 0))
    builder.capsule("tail", "tail", (0, 0, 0), (0, 0, -0.5 * tail), 0.028 * girth)
    builder.joint("tail_tip", "tail", (0, 0, -0.5 * tail), stance=(-15, 0, 0))
    builder.capsule("tail_tip", "tail", (0, 0, 0), (0, 0, -0.5 * tail), 0.02 * girth)
    for side, sign in SIDES.items():
        base = (sign * 0.05 * girth, 0.07 * girth, 0.02 * head)
        builder.capsule("head", "head", base, (sign * 0.085 * girth, 0.07 * girth + ear, 0), 0.02 * girth)
        _front_leg(builder, side, (sign * 0.09 * girth, -0.1 * height, 0.05 * height), hip - 0.1 * height, girth)
        _hind_leg(builder, side, (sign * 0.085 * girth, -0.06 * height, -0.02 * height), hip - 0.06 * height, girth)
    return builder.build()


def _front_leg(builder: BodyBuilder, side: str, shoulder: Vector, height: Number, girth: Number) -> None:
    upper, lower, hand = (f"{side}_{part}" for part in ("upper_arm", "lower_arm", "hand"))
    # The lengths make the standing leg exactly `height` high, so that front and hind feet stand on one floor.
    sole = 0.035 * girth
    bone, end = 0.38 * height / cos(radians(18)), 0.22 * height - sole
    builder.joint(upper, "chest", shoulder, stance=(-18, 0, 0))
    builder.capsule(upper, upper, (0, 0, 0), (0, -bone, 0), 0.045 * girth)
    builder.ellipsoid(upper, upper, (0, -0.3 * bone, 0), (0.06 * girth, 0.6 * bone, 0.09 * girth))
    builder.joint(lower, upper, (0, -bone, 0), stance=(18, 0, 0))
    builder.capsule(lower, lower, (0, 0, 0), (0, -0.4 * height, 0), 0.035 * girth)
    builder.joint(hand, lower, (0, -0.4 * height, 0))
    builder.capsule(hand, hand, (0, 0, 0), (0, -0.7 * end, 0), 0.028 * girth)
    builder.ellipsoid(hand, hand, (0, -end, 0.025 * girth), (0.042 * girth, sole, 0.07 * girth))


def _hind_leg(builder: BodyBuilder, side: str, hip: Vector, height: Number, girth: Number) -> None:
    thigh, shin, foot = (f"{side}_{part}" for part in ("thigh", "shin", "foot"))
    sole = 0.035 * girth
    bone, end = 0.36 * height / cos(radians(28)), 0.28 * height - sole
    builder.joint(thigh, "pelvis", hip, stance=(28, 0, 0))
    builder.capsule(thigh, thigh, (0, 0, 0), (0, -bone, 0), 0.052 * girth)
    builder.ellipsoid(thigh, thigh, (0, -0.3 * bone, 0), (0.07 * girth, 0.62 * bone, 0.12 * girth))
    builder.joint(shin, thigh, (0, -bone, 0), stance=(-56, 0, 0))
    builder.capsule(shin, shin, (0, 0, 0), (0, -bone, 0), 0.038 * girth)
    builder.joint(foot, shin, (0, -bone, 0), stance=(28, 0, 0))
    builder.capsule(foot, foot, (0, 0, 0), (0, -0.75 * end, 0), 0.028 * girth)
    builder.ellipsoid(foot, foot, (0, -end, 0.025 * girth), (0.042 * girth, sole, 0.07 * girth))
