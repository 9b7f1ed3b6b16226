"""What a family says of the weights of one of its teachers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from cross4d_cache.errors import TeacherError
from cross4d_cache.teachers.images import Normalisation
from cross4d_cache.teachers.weights.model import Preprocessing


@dataclass(frozen=True, kw_only=True)
class Original:
    """How the authors of a family lay out their checkpoint files, and how they normalise images.

    `rename` takes their names of tensors to those of transformers and need not check anything; what it does not know it leaves.
    `entries` are where the model lies in a file that holds a dict of dicts, the first one found counts. `ignored` matches (whole)
    names, the authors', of tensors that features do not depend on. `on_hub` says that what they publish on the hub is laid out like
    their files too. `statistics` tells from the authors' names of the tensors and from the place of weights how their images are
    normalised, where they are not all alike; None means as the source's `preprocessing` says.
    """

    rename: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    entries: tuple[str, ...] = ()
    ignored: str = ""
    on_hub: bool = False
    statistics: Callable[[Iterable[str], str], Normalisation | None] = lambda names, place: None


@dataclass(frozen=True, kw_only=True)
class WeightSource:
    """Where the weights of a named teacher are published, which ones fit, and the model that they belong to.

    `build` makes the model of any of the family's `variants`, from our own configurations; `overrides` are fields of a
    configuration that comes with the weights. `unused` matches (whole) names of the model's tensors that features do not need.
    `adapt` changes a configuration in transformers' layout to the names of the tensors beside it, and says which of these take the
    place of which of the model's.
    """

    variant: str
    variants: tuple[str, ...]
    hub_id: str | None
    revision: str | None
    model_types: tuple[str, ...]
    build: Callable[[str], PreTrainedModel]
    preprocessing: Preprocessing
    original: Original
    unused: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    adapt: Callable[[PretrainedConfig, set[str]], Mapping[str, str]] = lambda config, names: {}

    def normalisation(self, names: Iterable[str], place: str) -> Normalisation:
        """How the images of weights are normalised that lie at `place`, with some of the authors' names of tensors."""
        return self.original.statistics(names, place) or self.preprocessing.normalisation

    @property
    def published(self) -> str:
        """The hub id, pinned if its commit is known.

        Raises:
            TeacherError: they are not on the hub.
        """
        if self.hub_id is None:
            raise TeacherError(
                f"the weights of {self.variant} are not on the hub",
                expected="its authors' checkpoint file",
                hint="pass `teacher.weights` FILE",
            )
        return self.hub_id if self.revision is None else f"{self.hub_id}@{self.revision}"
