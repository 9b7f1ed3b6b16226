"""What a recipe is told of its dataset, and the students, stores and evaluations that this makes, with defaults filled in."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from cross4d_cache.build.request import BuildRequest, BuildSettings, DatasetRequest, TeacherRequest
from cross4d_cache.datasets import open_dataset
from cross4d_cache.record import Record
from cross4d_cache.types import SequenceInfo
from cross4d_train.clips import ClipSettings
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.settings import EncoderSettings, RunSettings, TrainingSettings
from pipelines.experiment.work import EvaluationRun, Store, Student

UNTRAINED, GLOBAL, DENSE = "untrained", "global", "dense"
MAIN = "teacher"
"""The store of the main teacher."""


class Scale(Record):
    """How much is computed: the students, their training, and how they are judged.

    `large` is the second backbone with its variants of table 20 (as it is, with a last norm, with finer tokens). `conditioning` is done to
    the targets of every distilled row that does not say otherwise. `image_sizes`, pixels, are those of teachers that do not get their own,
    `render_sizes` the others of table 10. `segment_epochs` and `tuning_epochs` train what has labels.
    """

    encoder: EncoderSettings
    large: tuple[EncoderSettings, EncoderSettings, EncoderSettings]
    clips: ClipSettings
    num_epochs: int
    clips_per_sequence: int
    learning_rate: float
    num_windows: int
    tuning_epochs: int
    segment_epochs: int
    conditioning: str
    image_sizes: dict[str, int]
    render_sizes: dict[str, tuple[int, ...]]
    gaps: tuple[int, ...]


class Benchmark(Record):
    """A dataset as the paper uses it, by scale: options of the dataset, settings of the builds of its stores, the split protocol, teachers,
    sizes of runs."""

    name: str
    dataset: str
    options: dict[str, dict[str, str]] = Field(default_factory=dict)
    stores: dict[str, BuildSettings] = Field(default_factory=dict)
    needs_data: bool = True
    protocol: str | None
    teachers: dict[str, tuple[str, ...]]
    tables: tuple[int, ...]
    figures: tuple[int, ...]
    scales: dict[str, Scale]


class Setup(Record):
    """A benchmark at one scale, with the teachers of this run (the first is the one that all tables but 2 and 18 use)."""

    benchmark: Benchmark
    scale_name: str
    protocol: str | None
    data: Path | None
    teachers: dict[str, str | None]
    out: Path

    @property
    def scale(self) -> Scale:
        """How much is computed."""
        return self.benchmark.scales[self.scale_name]

    def sequences(self) -> Sequence[SequenceInfo]:
        """Sequences of the dataset.

        Raises:
            DatasetError: the folder is not what it should be.
        """
        options = self.benchmark.options.get(self.scale_name, {})
        return open_dataset(self.benchmark.dataset, self.data, options).sequences()

    @property
    def teacher(self) -> str:
        """The name of the main teacher."""
        return next(iter(self.teachers))

    def store(self, name: str = MAIN, *, teacher: str | None = None, image_size: int | None = None, **settings: Any) -> Store:
        """A store of the dataset by the main teacher, or another, with further settings of its build."""
        teacher = teacher or self.teacher
        size = image_size or self._image_size(teacher)
        return self._store(name, TeacherRequest(name=teacher, weights=self.teachers[teacher], image_size=size), **settings)

    def store_of(self, teacher: str) -> Store:
        """The store of one of the teachers."""
        return self.store() if teacher == self.teacher else self.store(f"teacher-{teacher}", teacher=teacher)

    def controls(self) -> dict[str, Store]:
        """The stores of the controls: shuffled points, and a random vector for each patch index.

        Its patches are as many as those of a main teacher whose image size the scale sets, and 14 x 14 otherwise.
        """
        size = self._image_size("position") if self._image_size(self.teacher) else None
        return {
            "shuffled": self.store().shuffled("shuffled"),
            "position": self.patch_indices("position", size),
        }

    def patch_indices(self, name: str, image_size: int | None) -> Store:
        """The store of a random vector for each patch index, of images of 112 px or another size."""
        return self._store(name, TeacherRequest(name="position", image_size=image_size))

    def _image_size(self, teacher: str) -> int | None:
        return self.scale.image_sizes.get(family(teacher))

    def _store(self, name: str, teacher: TeacherRequest, **settings: Any) -> Store:
        options = self.benchmark.options.get(self.scale_name, {})
        chosen = self.benchmark.stores.get(self.scale_name, BuildSettings())
        request = BuildRequest(
            dataset=DatasetRequest(name=self.benchmark.dataset, root=self.data, options=options),
            teacher=teacher,
            settings=chosen.model_copy(update=settings),
        )
        return Store(path=self.out / "stores" / f"{name}.zarr", request=request)

    def student(
        self,
        name: str,
        store: Store,
        objective: ObjectiveSettings,
        *,
        encoder: EncoderSettings | None = None,
        **training: Any,
    ) -> Student:
        """A student with the scale's settings, some of its training replaced; colons in its name are hyphens in its folder's.

        One that standardises has a name of its own: a folder may hold one of release 0.1, which did not.
        """
        scale, objective = self.scale, objective.as_new()
        chosen = {
            "num_epochs": scale.num_epochs,
            "clips_per_sequence": scale.clips_per_sequence,
            "learning_rate": scale.learning_rate,
            "side": "train",
            "protocol": self.protocol,
        }
        settings = RunSettings(
            encoder=encoder or scale.encoder,
            objective=objective,
            clips=scale.clips,
            training=TrainingSettings.model_validate(chosen | training),
        )
        name = name.replace(":", "-") + ("-standardised" if objective.standardised else "")
        return Student(name=name, root=self.out, store=store, settings=settings)

    def untrained(self) -> Student:
        """An encoder with starting weights."""
        return Student(name=UNTRAINED)

    def dense(self, store: Store | None = None, conditioning: str | None = None) -> Student:
        """A student of dense distillation from the main store, or another."""
        store, conditioning = store or self.store(), conditioning or self.scale.conditioning
        label = DENSE if store.name == MAIN else store.name
        return self.student(f"{label}-{conditioning}", store, ObjectiveSettings(conditioning=conditioning))

    def distilled_globally(self, conditioning: str | None = None) -> Student:
        """A student of the teacher's embedding of whole clips."""
        conditioning = conditioning or self.scale.conditioning
        objective = ObjectiveSettings(name="global", conditioning=conditioning)
        return self.student(f"{GLOBAL}-{conditioning}", self.store(), objective)

    def judge(self, kind: str, student: Student, options: Mapping[str, Any] | None = None) -> EvaluationRun:
        """An evaluation of a student on the main store, with the scale's clips and windows."""
        clips = {f"clips.{name}": value for name, value in self.scale.clips.model_dump().items()}
        windows = {} if kind in ("segment", "segment-actions", "correspondence") else {"num_windows": self.scale.num_windows}
        return EvaluationRun(
            kind=kind,
            root=self.out,
            student=student,
            encoder=student.settings.encoder if student.settings else self.scale.encoder,
            store=self.store(),
            options={**clips, "protocol": self.protocol, **windows, **(options or {})},
        )


def family(teacher: str) -> str:
    """The family of a teacher, as the published tables name it: `dinov2-l` is `dinov2`."""
    return teacher.partition("-")[0]
