"""What a pre-training objective is: an encoder and a batch of clips in, one loss out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float32
from pydantic import Field, JsonValue
from torch import Tensor, nn

from cross4d_cache.options import parse_options
from cross4d_cache.record import Record, added
from cross4d_cache.registry import WORDS
from cross4d_cache.store import CacheManifest
from cross4d_train.conditioning import ConditioningName
from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Encoder

Scalars = dict[str, Tensor]
"""What an objective reports beside its loss, by name: detached float32 scalars, the same names at every step."""


class ObjectiveSettings(Record):
    """Which objective and, for those that have a teacher, the weight of the variance term (lambda) and what is done to targets first.

    The name may end in switches: `forecast:field+rollout`.
    """

    name: str = "dense"
    variance_weight: float = Field(default=1.0, ge=0, le=1_000_000, allow_inf_nan=False)
    conditioning: ConditioningName = "whiten:32"
    standardised: bool = added(False, must_be_known=True)
    """Of `global`: whether the mean tokens of a batch are standardised before the head. Release 0.1 never did."""
    options: dict[str, JsonValue] = added({}, must_be_known=True)
    """Of an objective that has some."""

    def as_new(self) -> "ObjectiveSettings":
        """These settings for a run that begins today, by today's rules in place of those of release 0.1.

        `global` standardises where conditioning takes the mean of targets away: of raw targets that mean is most of what is to be
        predicted, and mean tokens that have lost theirs give it too slowly.
        """
        return self.model_copy(update={"standardised": self.kind == "global" and self.conditioning != "none"})

    @property
    def kind(self) -> str:
        """The name without switches. One that is given, `module:Class`, has none."""
        return self.name if WORDS.fullmatch(self.name) else self.name.partition(":")[0]

    @property
    def switches(self) -> tuple[str, ...]:
        """The switches of the name."""
        text = self.name.removeprefix(self.kind).removeprefix(":")
        return tuple(text.split("+")) if text else ()


@dataclass(frozen=True, kw_only=True)
class TargetSpec:
    """The targets that a store holds: channels of a feature, views, and patches of an image, counted through all views."""

    channels: int
    num_views: int
    num_patches: int

    @classmethod
    def of(cls, manifest: CacheManifest) -> "TargetSpec":
        """The targets of a cache."""
        views = manifest.render.views
        return cls(channels=manifest.projection.channels, num_views=views, num_patches=views * manifest.teacher.num_patches)


class Objective(nn.Module, ABC):
    """A pre-training objective with its own heads.

    The loss is finite float32 whatever the batch, and a function of the batch and of the state that checkpoints have: what is random
    comes from the batch's generator. In evaluation mode the loss leaves that state alone. An objective does not own the encoder; it may
    own a frozen copy. On several devices each of them takes the loss of the whole batch, and encoders share the work (`across.Devices`).
    """

    switches: ClassVar[tuple[str, ...]] = ()
    """What can be switched on by the name."""
    Options: ClassVar[type[Record]] = Record
    """What else can be chosen about it; all fields have defaults. `self.options` is one."""

    @abstractmethod
    def __init__(self, settings: ObjectiveSettings, encoder: Encoder, targets: TargetSpec) -> None:
        """An untrained objective for encoders such as this one."""
        super().__init__()
        self.options = self.parse(settings)

    @classmethod
    def parse(cls, settings: ObjectiveSettings) -> Record:
        """The options of such an objective.

        Raises:
            SettingsError: an unknown one, or an impossible value.
        """
        return parse_options(cls.Options, settings.options, of=f"objective {settings.kind}")

    @abstractmethod
    def forward(self, encoder: Encoder, batch: Batch) -> tuple[Float32[Tensor, ""], Scalars]:
        """The loss of a batch."""

    def finish_step(self, encoder: Encoder, progress: float) -> None:
        """What is to be done after the weights moved; `progress` is the share of the run that is over."""
