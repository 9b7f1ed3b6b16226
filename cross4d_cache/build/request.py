"""What is asked of a build: all that decides the numbers of a store, as a value that is JSON. `build_store` does it."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, JsonValue

from cross4d_cache.errors import SettingsError
from cross4d_cache.record import Record
from cross4d_cache.types import TeacherSpec

CPU_BATCH, CUDA_BATCH = 32, 256
"""Frames of a batch where nobody says how many."""


class DatasetRequest(Record):
    """A dataset by name, the folder of its raw data, and options of its reader, also as a user writes them."""

    name: str = "synthetic"
    root: Path | None = None
    options: Mapping[str, JsonValue] = Field(default_factory=dict)


class TeacherRequest(Record):
    """A teacher by name, as `cross4d_cache.teachers.load_teacher` takes it. None is the teacher's own choice, or, of `precision`, the
    device's."""

    name: str = "tiny"
    weights: str | None = None
    layer: int | None = None
    image_size: int | None = None
    image_mean: tuple[float, float, float] | None = None
    image_std: tuple[float, float, float] | None = None
    window: int = 16
    precision: str | None = None
    options: Mapping[str, JsonValue] = Field(default_factory=dict)


class BuildSettings(Record):
    """What may be chosen about a build, apart from dataset and teacher.

    `batch_frames` go through the teacher together, in parts of at least `frames_per_part` frames; both may only change how a device
    rounds. `limit` keeps the first sequences of the dataset only, `exclude` leaves out sequences by id.

    Raises:
        SettingsError: a number that cannot be.
    """

    points_per_frame: int = 4096
    camera_model: str = "pinhole"
    camera: str = "sequence"
    views: int | None = None
    visibility: str = "surface"
    projection: str = "random:384"
    correspondence: str = "zbuffer"
    seed: int = 0
    batch_frames: int | None = None
    frames_per_part: int = 2048
    limit: int | None = None
    exclude: tuple[str, ...] = ()

    def model_post_init(self, _: object) -> None:
        """Refuse numbers that cannot be."""
        counts = {name: getattr(self, name) for name in ("points_per_frame", "views", "batch_frames", "frames_per_part", "limit")}
        for name, count in counts.items():
            if count is not None and count < 1:
                raise SettingsError(f"`{name}` {count}", expected="a count, at least 1", hint=f"pass another `{name}`")
        if not 0 <= self.seed < 2**63:
            raise SettingsError(f"`seed` {self.seed}", expected="0 or more, below 2**63", hint="pass another `seed`")

    @property
    def num_views(self) -> int:
        """Cameras; where nobody says how many one, of spherical ones eight, which share the whole turn."""
        return self.views or (8 if self.camera_model == "spherical" else 1)

    def frames_per_batch(self, device: str) -> int:
        """Frames of a batch on a device, `cpu` or `cuda`."""
        return self.batch_frames or (CUDA_BATCH if device == "cuda" else CPU_BATCH)

    def windows_per_batch(self, spec: TeacherSpec, device: str) -> int:
        """Windows of all views that make up a batch of images."""
        return max(1, self.frames_per_batch(device) // (spec.window * self.num_views))


class BuildRequest(Record):
    """Everything that decides a store."""

    dataset: DatasetRequest = DatasetRequest()
    teacher: TeacherRequest = TeacherRequest()
    settings: BuildSettings = BuildSettings()

    @classmethod
    def of_files(cls, root: Path, options: Mapping[str, JsonValue] | None = None, *, exclude: tuple[str, ...] = ()) -> "BuildRequest":
        """A store of somebody's own point-cloud files, without targets: what an encoder needs to give features of their points."""
        return cls(
            dataset=DatasetRequest(name="folder", root=root, options=options or {}),
            teacher=TeacherRequest(name="none"),
            settings=BuildSettings(exclude=exclude),
        )
