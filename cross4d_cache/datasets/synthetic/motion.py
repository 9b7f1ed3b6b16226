"""What an action writes: joint angles over time, from a handful of waveforms.

Frames are 1 / 15 s apart. Every motion has its own amplitude, speed, phase and leading side; joints that an action leaves alone
idle a little.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float64

from cross4d_cache.datasets.synthetic.body import Body, Number, Vector

FRAMES_PER_SECOND = 15
LEFT_HANDED = 0.25
"""Share of sequences that lead with the left side."""

Wave = Float64[np.ndarray, " frame"]


class Motion:
    """The motion of one body over one sequence, as an action's function writes it.

    `angles` are (flex, side, twist) in degrees on top of the stance, `lift` the height of the lowest point over the floor and
    `travel` the way of the root to the body's front, both metres. The joints in `planted` stay, on average, in place; without
    any, the root does.
    """

    def __init__(self, body: Body, num_frames: int, rng: np.random.Generator) -> None:
        self._numbers = {name: number for number, name in enumerate(body.joint_names)}
        self.seconds: Wave = np.arange(num_frames) / FRAMES_PER_SECOND
        self.angles: Float64[np.ndarray, "frame joint 3"] = np.zeros((num_frames, len(body.joint_names), 3))
        self.lift: Wave = np.zeros(num_frames)
        self.travel: Wave = np.zeros(num_frames)
        self.planted: tuple[str, ...] = ()
        self.amplitude = rng.uniform(0.8, 1.15)
        self.speed = rng.uniform(0.75, 1.25)
        self.start = rng.uniform()
        self.lead, self.other = ("left", "right") if rng.uniform() < LEFT_HANDED else ("right", "left")
        # An action that happens once takes most of the sequence and begins somewhere in what is left over.
        duration = rng.uniform(0.75, 0.95)
        onset = rng.uniform(0, 1 - duration)
        self.progress: Wave = ((np.arange(num_frames) / (num_frames - 1) - onset) / duration).clip(0, 1)
        self._idle(rng)

    def _idle(self, rng: np.random.Generator) -> None:
        """Slow small movement of everything that bears no weight."""
        for name, number in self._numbers.items():
            if name == "pelvis" or name.endswith(("thigh", "shin", "foot")):
                continue
            frequency, phase = rng.uniform(0.2, 0.6, size=3), rng.uniform(size=3)
            size = rng.uniform(0.5, 2.5, size=3) * (2 if name.startswith("tail") else 1)
            self.angles[:, number] += size * np.sin(2 * np.pi * (self.seconds[:, None] * frequency + phase))

    def phase(self, frequency: Number) -> Wave:
        """Angle, in radians, of a movement that repeats `frequency` times a second at normal speed, from a random start."""
        angle: Wave = 2 * np.pi * (self.start + self.speed * frequency * self.seconds)
        return angle

    def pulse(self, begin: Number, full: Number, hold: Number, end: Number) -> Wave:
        """Rises smoothly from 0 to 1 between `begin` and `full`, falls between `hold` and `end`; times are of the progress."""
        strength: Wave = smoothstep(self.progress, begin, full) - smoothstep(self.progress, hold, end)
        return strength

    def throughout(self) -> Wave:
        """On for the whole action, with a smooth beginning and end."""
        return self.pulse(0, 0.15, 0.85, 1)

    def flight(self, begin: Number, end: Number, height: Number) -> None:
        """A jump: the parabola of a body in the air between two times of the progress, `height` in metres."""
        through = ((self.progress - begin) / (end - begin)).clip(0, 1)
        self.lift += height * self.amplitude * 4 * through * (1 - through)

    def pose(self, weight: Wave | Number, angles: Mapping[str, Vector]) -> None:
        """Add the angles of a pose, degrees, as strongly as `weight` says.

        `lead_`, `other_` and `both_` name the sides; leans and turns of the trunk are given for a right lead and mirrored.
        """
        strength = np.broadcast_to(np.asarray(weight), self.seconds.shape) * self.amplitude
        mirror = np.array([1.0, 1.0, 1.0]) if self.lead == "right" else np.array([1.0, -1.0, -1.0])
        for name, values in angles.items():
            prefix, _, limb = name.partition("_")
            sides = {"lead": (self.lead,), "other": (self.other,), "both": (self.lead, self.other)}.get(prefix)
            for joint in [name] if sides is None else [f"{side}_{limb}" for side in sides]:
                central = not joint.startswith(("left_", "right_"))
                self.angles[:, self._numbers[joint]] += strength[:, None] * values * (mirror if central else 1)


Action = Callable[[Motion], None]
"""Writes one action into a motion."""


def smoothstep(value: Wave, begin: Number, end: Number) -> Wave:
    """0 before `begin`, 1 after `end`, smooth between."""
    through = ((value - begin) / (end - begin)).clip(0, 1)
    smooth: Wave = through * through * (3 - 2 * through)
    return smooth


def bump(phase: Wave) -> Wave:
    """The positive half of a cosine, squared: a smooth bump once a turn."""
    raised: Bool[np.ndarray, " frame"] = np.cos(phase) > 0
    return np.where(raised, np.cos(phase) ** 2, 0.0)
