"""The actions of four-legged animals.

Angles are (flex, side, twist) in degrees, see the body module; times are shares of the action's progress.
"""

import numpy as np

from cross4d_cache.datasets.synthetic.body import Number
from cross4d_cache.datasets.synthetic.motion import Action, Motion, bump

FRONT_FEET = ("left_hand", "right_hand")
HIND_FEET = ("left_foot", "right_foot")


def _legs(m: Motion, frequency: Number, swing: Number, bend: Number, shifts: dict[str, Number]) -> None:
    """Every leg swings with its own shift, in turns, and bends while it comes forward."""
    for leg, shift in shifts.items():
        side, end = leg.split()
        phase = m.phase(frequency) + 2 * np.pi * shift
        if end == "front":
            m.pose(np.sin(phase), {f"{side}_upper_arm": (swing, 0, 0)})
            m.pose(bump(phase), {f"{side}_lower_arm": (0.9 * bend, 0, 0), f"{side}_hand": (-1.7 * bend, 0, 0)})
        else:
            m.pose(np.sin(phase), {f"{side}_thigh": (swing, 0, 0)})
            m.pose(bump(phase), {f"{side}_thigh": (0.5 * bend, 0, 0), f"{side}_shin": (-bend, 0, 0)})
            m.pose(bump(phase), {f"{side}_foot": (0.5 * bend, 0, 0)})


def walk(m: Motion) -> None:
    """Walk: the four feet land one after the other."""
    _legs(m, 0.8, 20, 26, {"left hind": 0, "left front": 0.25, "right hind": 0.5, "right front": 0.75})
    m.pose(np.sin(2 * m.phase(0.8)), {"neck": (5, 0, 0)})
    m.pose(np.sin(m.phase(0.8)), {"spine": (0, 0, 3), "tail": (0, 0, 8)})
    m.travel += np.linspace(-0.5, 0.5, len(m.seconds)) * min(0.4 * m.speed * m.seconds[-1], 0.8)


def gallop(m: Motion) -> None:
    """Gallop: hind legs together, then front legs, the back bends and stretches."""
    frequency = 1.5
    _legs(m, frequency, 38, 44, {"left hind": 0, "right hind": 0.1, "left front": 0.45, "right front": 0.55})
    phase = m.phase(frequency)
    m.pose(np.sin(phase), {"pelvis": (9, 0, 0), "spine": (7, 0, 0), "chest": (-14, 0, 0), "neck": (12, 0, 0)})
    m.pose(1, {"neck": (18, 0, 0), "head": (-12, 0, 0), "tail": (30, 0, 0)})
    m.lift += 0.1 * m.amplitude * bump(phase - 1)
    m.travel += np.linspace(-0.5, 0.5, len(m.seconds)) * min(0.5 * m.speed * m.seconds[-1], 0.8)


def rear_up(m: Motion) -> None:
    """Rise on the hind legs, the front legs paw the air."""
    up = m.pulse(0, 0.35, 0.68, 1)
    m.pose(up, {"pelvis": (-50, 0, 0), "both_thigh": (-50 + 14, 4, 0), "both_shin": (-18, 0, 0), "both_foot": (4, 0, 0)})
    m.pose(up, {"both_upper_arm": (28, 0, 0), "both_lower_arm": (52, 0, 0), "both_hand": (-60, 0, 0), "neck": (22, 0, 0)})
    for side, shift in ((m.lead, 0.0), (m.other, np.pi)):
        m.pose(up * np.sin(m.phase(1.5) + shift), {f"{side}_upper_arm": (22, 0, 0), f"{side}_lower_arm": (18, 0, 0)})
    m.planted = HIND_FEET


def graze(m: Motion) -> None:
    """The head goes down to the ground and feeds."""
    down = m.pulse(0, 0.3, 0.8, 1)
    m.pose(down, {"chest": (10, 0, 0), "both_upper_arm": (10, 0, 0), "neck": (95, 0, 0), "head": (-35, 0, 0)})
    m.pose(down * np.sin(m.phase(1.3)), {"head": (9, 0, 4), "neck": (3, 0, 6)})
    m.planted = HIND_FEET


def shake_head(m: Motion) -> None:
    """The head turns quickly from side to side."""
    shaking = m.throughout() * np.sin(m.phase(1.9))
    m.pose(shaking, {"neck": (0, 10, 26), "head": (0, 22, 24)})
    m.pose(m.throughout(), {"neck": (18, 0, 0)})
    m.planted = FRONT_FEET + HIND_FEET


def wag_tail(m: Motion) -> None:
    """The raised tail swings, the hips a little with it."""
    phase, wagging = m.phase(1.8), m.throughout()
    m.pose(wagging, {"tail": (75, 0, 0), "tail_tip": (15, 0, 0), "head": (-10, 0, 0)})
    m.pose(wagging * np.sin(phase), {"tail": (0, 0, 42), "pelvis": (0, 0, 3), "chest": (0, 0, -3)})
    m.pose(wagging * np.sin(phase - 0.9), {"tail_tip": (0, 0, 32)})
    m.planted = FRONT_FEET + HIND_FEET


def paw_lift(m: Motion) -> None:
    """One front paw is given and drawn back."""
    lifted = m.pulse(0, 0.3, 0.75, 1)
    m.pose(lifted, {"lead_upper_arm": (48, 0, 0), "lead_lower_arm": (40, 0, 0), "lead_hand": (-45, 0, 0)})
    m.pose(lifted * np.sin(m.phase(1.2)), {"lead_upper_arm": (16, 0, 0), "lead_lower_arm": (-14, 0, 0)})
    m.pose(lifted, {"neck": (8, 0, 8), "head": (6, 10, 0)})
    m.planted = (f"{m.other}_hand", *HIND_FEET)


def jump(m: Motion) -> None:
    """Crouch and leap, the front first, and land on the front feet."""
    crouch = m.pulse(0, 0.25, 0.3, 0.42) + 0.6 * m.pulse(0.68, 0.78, 0.8, 1)
    m.pose(crouch, {"both_thigh": (32, 0, 0), "both_shin": (-64, 0, 0), "both_foot": (32, 0, 0)})
    m.pose(crouch, {"both_upper_arm": (-30, 0, 0), "both_lower_arm": (66, 0, 0), "both_hand": (-36, 0, 0)})
    rising, falling = m.pulse(0.3, 0.44, 0.48, 0.6), m.pulse(0.52, 0.64, 0.66, 0.78)
    m.pose(rising, {"pelvis": (-26, 0, 0), "neck": (10, 0, 0), "both_lower_arm": (60, 0, 0), "both_hand": (-70, 0, 0)})
    m.pose(falling, {"pelvis": (20, 0, 0), "neck": (-15, 0, 0), "both_upper_arm": (20, 0, 0)})
    m.pose(rising + falling, {"both_thigh": (-34, 0, 0), "both_shin": (20, 0, 0), "both_upper_arm": (18, 0, 0), "tail": (40, 0, 0)})
    m.flight(0.38, 0.72, 0.3)


ANIMAL_ACTIONS: dict[str, Action] = {
    action.__name__: action for action in (walk, gallop, rear_up, graze, shake_head, wag_tail, paw_lift, jump)
}
