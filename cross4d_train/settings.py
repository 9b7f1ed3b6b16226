"""Everything that decides the numbers of a pre-training run, and where its targets came from; both go into every checkpoint."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from cross4d_cache.errors import SettingsError
from cross4d_cache.record import Record, differences
from cross4d_cache.store import CacheManifest
from cross4d_cache.types import Side
from cross4d_train.clips import ClipSettings
from cross4d_train.initialise import Seed
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.recipes import recipe_for

Model = TypeVar("Model", bound=Record)


class EncoderSettings(Record):
    """Which student, in which of its named sizes."""

    name: str = "point4d"
    size: str = "paper"


class TrainingSettings(Record):
    """The optimisation (section 2). `batch_size` counts clips over all devices; `warmup` is a share of all steps."""

    num_epochs: int = Field(ge=1, le=1_000_000)
    batch_size: int = Field(default=16, ge=1, le=1_000_000)
    clips_per_sequence: int = Field(default=1, ge=1, le=10_000)
    learning_rate: float = Field(default=5e-4, gt=0, le=100, allow_inf_nan=False)
    weight_decay: float = Field(default=1e-4, ge=0, le=100, allow_inf_nan=False)
    warmup: float = Field(default=0.05, ge=0, le=1)
    seed: Seed = 0
    side: Side = "all"
    protocol: str | None = None


class RunSettings(Record):
    """A whole pre-training run, but for where it runs.

    The number of loader workers changes no number. Devices do: CUDA computes in bfloat16, a CPU in float32, and each of several
    devices takes the mean over visible tokens, the variance term and what mean tokens are standardised by on its own share of the batch
    before the gradients are averaged, so that a run on several devices minimises another loss than one on a single device.
    """

    encoder: EncoderSettings = EncoderSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    clips: ClipSettings
    training: TrainingSettings

    @classmethod
    def for_cache(cls, manifest: CacheManifest) -> "RunSettings":
        """The recipe of the cache's dataset. Pre-training needs no labels, so it takes, beside the training side of the first protocol,
        whatever no protocol places."""
        dataset = manifest.dataset
        return cls(
            clips=recipe_clips(dataset.name),
            training=TrainingSettings(
                num_epochs=recipe_for(dataset.name).num_epochs,
                side="train+unsplit" if dataset.protocols else "all",
                protocol=dataset.protocols[0] if dataset.protocols else None,
            ),
        )

    def changed(self, options: Mapping[str, object]) -> "RunSettings":
        """These settings with some replaced, named as in `training.seed`.

        Raises:
            SettingsError: a value that cannot work.
        """
        return with_options(self, options)

    def differences(self, other: "RunSettings") -> list[str]:
        """One line for each setting in which two runs differ."""
        return differences(self, other)


class Origin(Record):
    """The cache that targets came from. `random_teacher` says that the teacher had never been trained."""

    dataset: str
    fingerprint: str
    sequences: str
    teacher: str
    random_teacher: bool
    target_channels: int

    @classmethod
    def of(cls, manifest: CacheManifest) -> "Origin":
        """The origin that a cache is."""
        return cls(
            dataset=manifest.dataset.name,
            fingerprint=manifest.fingerprint,
            sequences=manifest.plan.sha256,
            teacher=f"{manifest.teacher.name} ({manifest.teacher.weights})",
            random_teacher=manifest.teacher.is_random,
            target_channels=manifest.projection.channels,
        )


def recipe_clips(dataset: str) -> ClipSettings:
    """Clips as the recipe of a dataset has them."""
    recipe = recipe_for(dataset)
    return ClipSettings(num_frames=recipe.num_frames, num_points=recipe.num_points, stride=recipe.stride)


def with_options(settings: Model, options: Mapping[str, object]) -> Model:
    """Settings with some replaced by dotted name, validated again.

    Raises:
        SettingsError: a value that cannot work.
    """
    record: dict[str, Any] = settings.model_dump()
    for name, value in options.items():
        *groups, field = name.split(".")
        target, known = record, settings
        for group in groups:
            target, known = target[group], getattr(known, group)
        assert field in type(known).model_fields, name
        target[field] = value
    try:
        return type(settings).model_validate(record, extra="allow")
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{name} = {first['input']!r}", expected=first["msg"], hint="see --help") from None
