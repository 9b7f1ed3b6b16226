"""The actions of people, told apart by the part of the body that moves and by the kind of movement.

Angles are (flex, side, twist) in degrees, see the body module; times are shares of the action's progress.
"""

import numpy as np

from cross4d_cache.datasets.synthetic.body import Number
from cross4d_cache.datasets.synthetic.motion import Action, Motion, bump, smoothstep

FEET = ("left_foot", "right_foot")


def _stride(m: Motion, frequency: Number, thigh: Number, knee: Number, arm: Number, elbow: Number) -> None:
    """Legs and arms swing against each other; the knee bends while its leg comes forward."""
    for side, opposite, shift in ((m.lead, m.other, 0.0), (m.other, m.lead, np.pi)):
        phase = m.phase(frequency) + shift
        m.pose(np.sin(phase), {f"{side}_thigh": (thigh, 0, 0), f"{opposite}_upper_arm": (arm, 0, 0)})
        m.pose(bump(phase), {f"{side}_shin": (-knee, 0, 0), f"{side}_thigh": (knee / 3, 0, 0)})
        m.pose(np.sin(phase), {f"{side}_foot": (12, 0, 0), f"{opposite}_lower_arm": (elbow / 3, 0, 0)})
    m.pose(1, {"both_lower_arm": (elbow, 0, 0), "both_shin": (-6, 0, 0)})
    m.pose(np.sin(m.phase(frequency)), {"pelvis": (0, 0, 6), "chest": (0, 0, -12)})
    m.travel += np.linspace(-0.5, 0.5, len(m.seconds)) * min(0.45 * m.speed * m.seconds[-1], 0.9)


def walk(m: Motion) -> None:
    """Walk."""
    _stride(m, 0.95, thigh=27, knee=48, arm=24, elbow=12)


def jog(m: Motion) -> None:
    """Run slowly, elbows bent, with moments in the air."""
    _stride(m, 1.4, thigh=36, knee=88, arm=42, elbow=72)
    m.pose(1, {"spine": (6, 0, 0), "chest": (4, 0, 0)})
    m.lift += 0.06 * m.amplitude * np.abs(np.sin(m.phase(1.4)))


def jump(m: Motion) -> None:
    """Crouch, jump up with the arms, land softly."""
    crouch = m.pulse(0, 0.28, 0.33, 0.42) + 0.7 * m.pulse(0.66, 0.76, 0.8, 1)
    m.pose(crouch, {"both_thigh": (52, 0, 0), "both_shin": (-96, 0, 0), "both_foot": (44, 0, 0), "spine": (25, 0, 0)})
    m.pose(m.pulse(0, 0.25, 0.3, 0.4), {"both_upper_arm": (-45, 5, 0)})
    m.pose(m.pulse(0.32, 0.44, 0.6, 0.85), {"both_upper_arm": (150, 5, 0)})
    m.pose(m.pulse(0.38, 0.43, 0.62, 0.68), {"both_foot": (-35, 0, 0)})
    m.flight(0.4, 0.68, 0.32)
    m.planted = FEET


def jumping_jack(m: Motion) -> None:
    """Legs and arms open and close with every hop."""
    phase = m.phase(0.9)
    opened = m.throughout() * (0.5 - 0.5 * np.cos(phase))
    m.pose(opened, {"both_upper_arm": (0, 145, 0), "both_thigh": (0, 24, 0), "both_foot": (0, -24, 0)})
    m.lift += 0.07 * m.throughout() * np.abs(np.sin(phase))
    m.planted = FEET


def squat(m: Motion) -> None:
    """Knees bend deeply, arms forward for balance."""
    down = m.throughout() * (0.5 - 0.5 * np.cos(4 * np.pi * m.progress))
    m.pose(down, {"both_thigh": (88, 12, 15), "both_shin": (-120, 0, 0), "both_foot": (32, -12, 0)})
    m.pose(down, {"spine": (18, 0, 0), "chest": (12, 0, 0), "neck": (-15, 0, 0), "both_upper_arm": (105, 0, 0)})
    m.planted = FEET


def sit(m: Motion) -> None:
    """Sit down on a seat that is not seen, rest, and get up again."""
    seated = m.pulse(0, 0.35, 0.7, 1)
    m.pose(seated, {"both_thigh": (84, 4, 0), "both_shin": (-82, 0, 0), "both_foot": (-2, 0, 0)})
    m.pose(seated, {"both_upper_arm": (25, 0, 0), "both_lower_arm": (35, 0, 0)})
    m.pose(m.pulse(0, 0.2, 0.25, 0.45) + m.pulse(0.6, 0.75, 0.8, 1), {"spine": (28, 0, 0), "chest": (15, 0, 0)})
    m.planted = FEET


def bend_pick_up(m: Motion) -> None:
    """Bend to the floor, take something with one hand and bring it up."""
    down = m.pulse(0, 0.38, 0.5, 0.85)
    m.pose(down, {"pelvis": (60, 0, 0), "spine": (30, 0, 0), "chest": (20, 0, 10), "neck": (-20, 0, 0)})
    m.pose(down, {"both_thigh": (60 + 45, 0, 0), "both_shin": (-80, 0, 0), "both_foot": (35, 0, 0)})
    m.pose(down, {"lead_upper_arm": (95, 0, 0), "other_upper_arm": (50, 10, 0), "other_lower_arm": (25, 0, 0)})
    m.pose(m.pulse(0.55, 0.8, 0.9, 1), {"lead_upper_arm": (20, 0, 0), "lead_lower_arm": (75, 0, 0)})
    m.planted = FEET


def wave(m: Motion) -> None:
    """One arm out and up, the forearm swings."""
    raised = m.throughout()
    m.pose(raised, {"lead_upper_arm": (10, 85, 85), "lead_lower_arm": (75, 0, 0), "chest": (0, -4, 0)})
    m.pose(raised * np.sin(m.phase(1.5)), {"lead_lower_arm": (32, 0, 0), "lead_hand": (15, 0, 0)})
    m.planted = FEET


def two_hand_wave(m: Motion) -> None:
    """Both arms overhead, swinging out and in."""
    raised = m.throughout()
    m.pose(raised, {"both_upper_arm": (0, 128, 60), "both_lower_arm": (18, 0, 0)})
    m.pose(raised * np.sin(m.phase(1.2)), {"both_upper_arm": (0, 24, 0), "both_lower_arm": (14, 0, 0)})
    m.planted = FEET


def clap(m: Motion) -> None:
    """Hands meet in front of the chest."""
    ready = m.throughout()
    m.pose(ready, {"both_upper_arm": (48, 10, -25), "both_lower_arm": (45, 0, 0)})
    m.pose(ready * np.cos(m.phase(1.6)), {"both_upper_arm": (0, 18, 14)})
    m.planted = FEET


def punch(m: Motion) -> None:
    """From a guard, the leading arm strikes twice."""
    guard = m.throughout()
    strike = m.pulse(0.2, 0.3, 0.34, 0.46) + m.pulse(0.54, 0.64, 0.68, 0.8)
    m.pose(guard, {"both_upper_arm": (32, 4, 0), "both_lower_arm": (108, 0, 0), "chest": (6, 0, -14)})
    m.pose(guard, {"both_thigh": (18, 5, 0), "both_shin": (-34, 0, 0), "both_foot": (16, -5, 0)})
    m.pose(strike, {"lead_upper_arm": (52, -12, 0), "lead_lower_arm": (-112, 0, 0), "chest": (4, 0, 36)})
    m.pose(strike, {"spine": (6, 0, 10), "other_upper_arm": (-12, 6, 0)})
    m.planted = FEET


def throw(m: Motion) -> None:
    """The arm goes back over the shoulder and throws forward, the trunk turns with it."""
    back, release = m.pulse(0, 0.35, 0.42, 0.55), m.pulse(0.42, 0.56, 0.64, 0.95)
    m.pose(back, {"lead_upper_arm": (-10, 88, 110), "lead_lower_arm": (95, 0, 0), "chest": (-10, 6, -38)})
    m.pose(back, {"other_upper_arm": (55, 15, 0), "other_thigh": (28, 0, 0), "other_shin": (-40, 0, 0)})
    m.pose(release, {"lead_upper_arm": (85, 10, 0), "chest": (18, -4, 34), "spine": (16, 0, 12)})
    m.pose(release, {"lead_thigh": (-14, 0, 0), "lead_foot": (8, 0, 0), "other_thigh": (20, 0, 0), "other_shin": (-16, 0, 0)})
    m.planted = (f"{m.lead}_foot",)


def forward_kick(m: Motion) -> None:
    """Knee up, the foot snaps forward, back down."""
    knee, snap = m.pulse(0.1, 0.38, 0.55, 0.85), m.pulse(0.34, 0.46, 0.5, 0.62)
    m.pose(knee, {"lead_thigh": (72, 0, 0), "lead_shin": (-85, 0, 0), "lead_foot": (-10, 0, 0)})
    m.pose(snap, {"lead_thigh": (16, 0, 0), "lead_shin": (82, 0, 0), "spine": (-14, 0, 0)})
    m.pose(knee, {"both_upper_arm": (22, 14, 0), "both_lower_arm": (60, 0, 0), "other_shin": (-12, 0, 0)})
    m.pose(snap, {"other_upper_arm": (30, 0, 0), "lead_upper_arm": (-45, 8, 0)})
    m.planted = (f"{m.other}_foot",)


def side_kick(m: Motion) -> None:
    """The leg goes out sideways while the trunk leans away."""
    chamber, out = m.pulse(0.08, 0.35, 0.6, 0.88), m.pulse(0.32, 0.46, 0.52, 0.64)
    m.pose(chamber, {"lead_thigh": (45, 25, 0), "lead_shin": (-80, 0, 0), "both_lower_arm": (80, 0, 0)})
    m.pose(out, {"lead_thigh": (-40, 48, 0), "lead_shin": (74, 0, 0), "spine": (0, -18, 0), "chest": (0, -10, 0)})
    m.pose(chamber, {"pelvis": (0, -16, 0), "other_thigh": (0, 16, 0), "both_upper_arm": (20, 12, 0)})
    m.planted = (f"{m.other}_foot",)


def tennis_swing(m: Motion) -> None:
    """A forehand: the arm swings from far behind across the body, low to high."""
    back, through = m.pulse(0, 0.38, 0.42, 0.6), m.pulse(0.42, 0.64, 0.7, 1)
    m.pose(back, {"lead_upper_arm": (-35, 62, 20), "lead_lower_arm": (20, 0, 0), "chest": (0, 0, -48), "pelvis": (0, 0, -18)})
    m.pose(back, {"other_upper_arm": (48, 0, 0), "other_lower_arm": (30, 0, 0)})
    m.pose(through, {"lead_upper_arm": (108, -22, -30), "lead_lower_arm": (62, 0, 0), "chest": (6, 0, 48)})
    m.pose(through, {"pelvis": (0, 0, 22), "lead_foot": (-16, 0, 0), "other_upper_arm": (15, 20, 0)})
    m.pose(m.throughout(), {"both_thigh": (20, 9, 0), "both_shin": (-38, 0, 0), "both_foot": (18, -9, 0)})
    m.planted = FEET


def turn(m: Motion) -> None:
    """Turn on the spot with small steps."""
    angle = 220 * smoothstep(m.progress, 0, 1)
    m.pose(angle / m.amplitude, {"pelvis": (0, 0, 1)})
    stepping = m.throughout()
    for side, shift in ((m.lead, 0.0), (m.other, np.pi)):
        lifted = stepping * bump(m.phase(1.3) + shift)
        m.pose(lifted, {f"{side}_thigh": (30, 4, 0), f"{side}_shin": (-54, 0, 0), f"{side}_foot": (20, 0, 0)})
    m.pose(stepping, {"neck": (0, 0, 22), "both_upper_arm": (0, 8, 0)})


HUMAN_ACTIONS: dict[str, Action] = {
    action.__name__: action
    for action in (
        *(walk, jog, jump, jumping_jack, squat, sit, bend_pick_up, wave),
        *(two_hand_wave, clap, punch, throw, forward_kick, side_kick, tennis_swing, turn),
    )
}
