"""Everything that decides the numbers of a pre-training run, and where its targets came from; both go into every checkpoint."""

from collections.abc import Iterator, Mapping

from pydantic import Field, JsonValue

from cross4d_cache.options import change, parse_options, value_of
from cross4d_cache.record import Record, added, differences
from cross4d_cache.store import CacheManifest
from cross4d_cache.store.digest import Sha256
from cross4d_cache.types import Precision, Side
from cross4d_cache.work import Remark
from cross4d_train.augment import Augmentation
from cross4d_train.clips import ClipSettings
from cross4d_train.encoders import build_encoder, find_config
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.initialise import Seed
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.recipes import recipe_for


class EncoderSettings(Record):
    """Which student, in which of its named sizes, with which settings of that size replaced, by dotted name (`fine.radius`)."""

    name: str = "point4d"
    size: str = "paper"
    options: dict[str, JsonValue] = added({}, must_be_known=True)

    def build(self, seed: int = 0) -> Encoder:
        """The untrained encoder.

        Raises:
            SettingsError: unknown name, size or option.
        """
        return build_encoder(self.name, self.size, seed, self.options)

    def settled(self) -> "EncoderSettings":
        """These settings with options as values, not as the text that a command line has of them.

        Raises:
            SettingsError: as `build`.
        """
        if not self.options:
            return self
        _, config = find_config(self.name, self.size, self.options)
        return self.model_copy(update={"options": {name: value_of(config, name) for name in sorted(self.options)}})


class EarlierLength(Record):
    """How long a run was meant to be before it was lengthened: in steps below `until_step` it is one of `num_epochs`."""

    num_epochs: int = Field(ge=1, le=1_000_000)
    until_step: int = Field(ge=0)


class TrainingSettings(Record):
    """The optimisation (section 2). `batch_size` counts clips over all devices; `warmup` is a share of all steps. `precision` is what
    the student computes in; a run of release 0.1 does not say: bfloat16 on CUDA, float32 on a CPU. With `deterministic` a GPU gives the
    same curve every time, at some cost; a CPU always does.

    A run that was lengthened has its earlier lengths, the first one first: what follows the length of a run (learning rate, momentum)
    follows at each step the length that the run had then. So these settings give the same curve in a run that never stopped.
    """

    num_epochs: int = Field(ge=1, le=1_000_000)
    batch_size: int = Field(default=16, ge=1, le=1_000_000)
    clips_per_sequence: int = Field(default=1, ge=1, le=10_000)
    learning_rate: float = Field(default=5e-4, gt=0, le=100, allow_inf_nan=False)
    weight_decay: float = Field(default=1e-4, ge=0, le=100, allow_inf_nan=False)
    warmup: float = Field(default=0.05, ge=0, le=1)
    seed: Seed = 0
    side: Side = "all"
    protocol: str | None = None
    earlier_lengths: tuple[EarlierLength, ...] = added((), must_be_known=True)
    precision: Precision | None = added(None)
    deterministic: bool = added(False, must_be_known=True)

    def length_at(self, step: int) -> int:
        """How many epochs the run was to have when `step` was trained."""
        return next((earlier.num_epochs for earlier in self.earlier_lengths if step < earlier.until_step), self.num_epochs)

    def as_of(self, step: int) -> "TrainingSettings":
        """The settings that decide the first `step` steps: without what lengthened the run at that step or later."""
        lengths = self.earlier_lengths
        later = next((index for index, earlier in enumerate(lengths) if earlier.until_step >= step), None)
        if later is None:
            return self
        return self.model_copy(update={"num_epochs": lengths[later].num_epochs, "earlier_lengths": lengths[:later]})


class RunSettings(Record):
    """A whole pre-training run, but for where it runs. `initial` is the checkpoint whose encoder it began with, None for drawn weights.

    Clips are augmented before the objective sees them; their targets stay those of the points as they were.

    The number of loader workers changes no number. Several devices minimise the loss of one (`across.Devices`), and round differently.
    """

    encoder: EncoderSettings = EncoderSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    clips: ClipSettings
    training: TrainingSettings
    augmentation: Augmentation = added(Augmentation(), must_be_known=True)
    initial: "InitialWeights | None" = added(None, must_be_known=True)

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
        moves = options.get("augmentation")
        if isinstance(moves, Mapping):
            options = {**options, "augmentation": parse_options(Augmentation, moves, of="`augmentation`").model_dump()}
        return change(self, options)

    def lengthened(self, num_epochs: int, step: int) -> "RunSettings":
        """These settings for a run that is `num_epochs` long from `step` on."""
        past = self.training.as_of(step)
        earlier = (*past.earlier_lengths, EarlierLength(num_epochs=past.num_epochs, until_step=step))
        return self.model_copy(update={"training": past.model_copy(update={"num_epochs": num_epochs, "earlier_lengths": earlier})})

    def by_history_of(self, begun: "RunSettings") -> "RunSettings":
        """These settings with what nobody chooses as in a run that was begun: the rules of the release that began it, and its lengths."""
        objective = self.objective.model_copy(update={"standardised": begun.objective.standardised})
        past = begun.training
        kept = {"earlier_lengths": past.earlier_lengths, "precision": self.training.precision or past.precision}
        training = self.training.model_copy(update=kept)
        return self.model_copy(update={"objective": objective, "training": training})

    def differences(self, begun: "RunSettings", step: int) -> list[str]:
        """One line for each setting in which the first `step` steps of a run that was begun differ from those of this one; and one if
        this one is shorter."""
        found = differences(*(run.model_copy(update={"training": run.training.as_of(step)}) for run in (self, begun)))
        found = [line for line in found if not line.startswith("initial.") or line.startswith("initial.sha256: ")]  # it decides the others
        lengths = self.training.num_epochs, begun.training.num_epochs
        return found or ["training.num_epochs: {} here, {} there".format(*lengths)] * (lengths[0] < lengths[1])

    @property
    def ancestors(self) -> list["InitialWeights"]:
        """The runs that trained the encoder before this one, the last one first."""
        return [] if self.initial is None else [self.initial, *self.initial.settings.ancestors]


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

    def warnings(self) -> Iterator[Remark]:
        """What has to be said loudly of all that comes from this cache."""
        if self.random_teacher:
            what = f"the teacher {self.teacher} had random weights"
            yield Remark(f"WARNING: {what}: its targets mean nothing, and results only show that things run")


class InitialWeights(Record):
    """The checkpoint whose encoder a run began with: the hash of its file, and the run that made it, after `step` steps."""

    sha256: Sha256
    step: int
    settings: RunSettings
    origin: Origin


RunSettings.model_rebuild()


def recipe_clips(dataset: str) -> ClipSettings:
    """Clips as the recipe of a dataset has them."""
    recipe = recipe_for(dataset)
    return ClipSettings(num_frames=recipe.num_frames, num_points=recipe.num_points, stride=recipe.stride)
