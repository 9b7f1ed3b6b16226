"""The synthetic dataset: which sequences there are, and how one of them is made.

Every random number comes from a seed of its own for (subject), (sequence length), (motion and place) or (noise), so any sequence
can be made alone, in any order, to the same bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float32, Integer
from pydantic import Field, model_validator

from cross4d_cache.datasets.dataset import Dataset, DatasetOptions
from cross4d_cache.datasets.mesh import Mesh
from cross4d_cache.datasets.synthetic.anatomy import PART_NAMES, animal_body, human_body
from cross4d_cache.datasets.synthetic.animal_actions import ANIMAL_ACTIONS
from cross4d_cache.datasets.synthetic.body import Body
from cross4d_cache.datasets.synthetic.human_actions import HUMAN_ACTIONS
from cross4d_cache.datasets.synthetic.mesh import body_mesh
from cross4d_cache.datasets.synthetic.motion import Motion
from cross4d_cache.datasets.synthetic.primitives import PosedPrimitives, surface_ids
from cross4d_cache.datasets.synthetic.scene import place
from cross4d_cache.datasets.synthetic.sensor import Sensor
from cross4d_cache.errors import DatasetError
from cross4d_cache.types import Frame, PointCloudSequence, SequenceInfo

ACTIONS = [
    *(("human", name, action) for name, action in HUMAN_ACTIONS.items()),
    *(("animal", name, action) for name, action in ANIMAL_ACTIONS.items()),
]


class SyntheticOptions(DatasetOptions):
    """What to generate. `num_humans` and `num_animals` are subjects, each of which does every action of its kind `repeats` times.

    Headings are uniform within `heading_range_degrees` to both sides of facing the sensor. `noise` is the standard deviation of
    the depth at 1 m, metres; it grows with the square of the depth. `resolution` scales the image of 320 x 320 pixels.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    num_humans: Annotated[int, Field(ge=0, le=1000)] = 12
    num_animals: Annotated[int, Field(ge=0, le=1000)] = 6
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    min_frames: Annotated[int, Field(ge=2)] = 24
    max_frames: Annotated[int, Field(le=1000)] = 40
    heading_range_degrees: Annotated[float, Field(ge=0, le=180)] = 90.0
    noise: Annotated[float, Field(ge=0, le=0.05)] = 0.001
    resolution: Annotated[float, Field(gt=0, le=4)] = 1.0

    @model_validator(mode="after")
    def _check(self) -> "SyntheticOptions":
        if self.min_frames > self.max_frames:
            raise ValueError(f"min_frames={self.min_frames} is larger than max_frames={self.max_frames}")
        if self.num_humans + self.num_animals == 0:
            raise ValueError("num_humans and num_animals are both 0, which leaves no subject")
        return self


class _Stream(IntEnum):
    """What a random stream is for; its number is part of the seed."""

    BODY = 0
    LENGTH = 1
    MOTION = 2
    NOISE = 3


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """Which sequence to make: kind (0 human, 1 animal), number of the subject in its kind, index in ACTIONS, and repeat."""

    kind: int
    subject: int
    action: int
    repeat: int


class Synthetic(Dataset):
    """People and animals in motion, generated on demand, as a depth sensor sees them.

    Frames are 1 / 15 s apart. Part labels index `part_names`; a surface id is `primitive * 1024 + axial bin * 32 + azimuth bin`
    of the patch that the pixel sees.
    """

    name = "synthetic"
    version = "1"
    protocols = ("cross-subject",)
    needs_root = False
    Options = SyntheticOptions
    options: SyntheticOptions

    def __init__(self, root: Path | None, options: SyntheticOptions) -> None:
        super().__init__(root, options)
        self.sensor = Sensor(image_size=max(round(320 * options.resolution), 8), focal=285 * options.resolution)
        self._recipes = self._list()

    @property
    def sensor_at_origin(self) -> bool:
        """Points are given in the sensor's axes."""
        return True

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names such as "human/walk"."""
        return tuple(f"{kind}/{name}" for kind, name, _ in ACTIONS)

    @property
    def part_names(self) -> tuple[str, ...]:
        """People and animals share one list; an animal's front leg has the names of an arm."""
        return PART_NAMES

    def sequences(self) -> Sequence[SequenceInfo]:
        """People first, then animals; by subject, action and repeat."""
        return [info for info, _ in self._recipes.values()]

    def frames(self, info: SequenceInfo) -> Iterator[Frame]:
        """The frames of `read`; a sequence is made as a whole."""
        return self.read(info).frames()

    def read(self, info: SequenceInfo) -> PointCloudSequence:
        """Generate one sequence: the points in front of the sensor at the origin, metres, OpenCV axes."""
        recipe = self._recipe(info)
        body = self.body(info)
        primitives = self._posed(body, recipe, info.num_frames)
        hits = self.sensor.cast(primitives)
        rays = np.ones((len(hits.depths), 3), dtype=np.float32)
        rays[:, 0], rays[:, 1] = self.sensor.tangents(hits.columns), self.sensor.tangents(hits.rows)
        exact = rays * hits.depths[:, None]
        rng = self._rng(_Stream.NOISE, recipe)
        errors = rng.standard_normal(len(hits.depths), dtype=np.float32) * np.float32(self.options.noise)
        offsets = np.searchsorted(hits.frames, np.arange(info.num_frames + 1))
        return PointCloudSequence(
            info=info,
            points=rays * (hits.depths + errors * np.square(hits.depths))[:, None],
            point_offsets=offsets.astype(np.int64),
            part_labels=body.parts.astype(np.uint16)[hits.primitives],
            surface_ids=surface_ids(primitives, exact, hits.frames, hits.primitives),
        )

    def body(self, info: SequenceInfo) -> Body:
        """The body of a sequence's subject; its `rest_positions` says where surface ids lie at rest."""
        recipe = self._recipe(info)
        rng = self._rng(_Stream.BODY, _Recipe(kind=recipe.kind, subject=recipe.subject, action=0, repeat=0))
        return human_body(rng) if recipe.kind == 0 else animal_body(rng)

    def primitives(self, info: SequenceInfo) -> PosedPrimitives:
        """The solid shapes of every frame, metres, in the sensor's frame: what the points of `read` were cast from."""
        return self._posed(self.body(info), self._recipe(info), info.num_frames)

    def mesh(self, info: SequenceInfo, frame: int) -> Mesh:
        """The surfaces of the solid shapes of a frame."""
        return body_mesh(self.primitives(info), frame)

    def _posed(self, body: Body, recipe: _Recipe, num_frames: int) -> PosedPrimitives:
        rng = self._rng(_Stream.MOTION, recipe)
        motion = Motion(body, num_frames, rng)
        ACTIONS[recipe.action][2](motion)
        return place(body, motion, self.sensor, self.options.heading_range_degrees, rng)

    def rest_positions(self, info: SequenceInfo, ids: Integer[np.ndarray, " point"]) -> Float32[np.ndarray, "point 3"]:
        """Where surface ids of a sequence lie on its subject at rest, metres; the frame is that of `Body.rest_positions`."""
        return self.body(info).rest_positions(ids)

    def _recipe(self, info: SequenceInfo) -> _Recipe:
        listed = self._recipes.get(info.id)
        if listed is None or listed[0] != info:
            raise DatasetError(
                f"sequence {info.id} is not in this synthetic dataset",
                expected="a sequence from its own listing",
                hint="open the dataset with the options it was listed with",
            )
        return listed[1]

    def _list(self) -> Mapping[str, tuple[SequenceInfo, _Recipe]]:
        """Recipes by sequence id. One subject in three tests, beginning with the second, so that two subjects are enough."""
        recipes = {}
        for kind, (word, count) in enumerate((("human", self.options.num_humans), ("animal", self.options.num_animals))):
            for subject in range(count):
                for action in (index for index, (owner, _, _) in enumerate(ACTIONS) if owner == word):
                    for repeat in range(self.options.repeats):
                        recipe = _Recipe(kind=kind, subject=subject, action=action, repeat=repeat)
                        length = self._rng(_Stream.LENGTH, recipe).integers(self.options.min_frames, self.options.max_frames, endpoint=True)
                        info = SequenceInfo(
                            id=f"{word}{subject:02d}_{ACTIONS[action][1]}_r{repeat:02d}",
                            num_frames=int(length),
                            action=action,
                            subject=subject + kind * self.options.num_humans,
                            camera=0,
                            splits={"cross-subject": "test" if subject % 3 == 1 else "train"},
                        )
                        recipes[info.id] = (info, recipe)
        return recipes

    def _rng(self, stream: _Stream, recipe: _Recipe) -> np.random.Generator:
        key = (self.options.seed, stream, recipe.kind, recipe.subject, recipe.action, recipe.repeat)
        return np.random.default_rng([int(number) for number in key])
