"""A frozen model with what the manifest records of its weights."""

from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import transformers
from transformers import PreTrainedModel

from cross4d_cache.errors import TeacherError
from cross4d_cache.teachers.images import Normalisation


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Image side in pixels, None if nothing says it, and what normalises images in [0, 1]."""

    image_size: int | None
    normalisation: Normalisation = field(default_factory=Normalisation)


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A frozen model in float32; `label`, `revision` and `sha256` are `weights` and so on of `TeacherSpec`.

    `missing` are names of its tensors that the weights do not hold; `adopted` are tensors of theirs that took the place of others.
    """

    model: PreTrainedModel
    preprocessing: Preprocessing
    label: str
    revision: str | None
    sha256: str
    missing: frozenset[str] = frozenset()
    adopted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)


def check_numbers(model: PreTrainedModel, place: str, unused: Container[str]) -> None:
    """Refuse weights that are not finite, apart from some tensors.

    Raises:
        TeacherError: names the first one.
    """
    for name, parameter in model.named_parameters():
        if name not in unused and not bool(parameter.isfinite().all()):
            count = int((~parameter.isfinite()).sum())
            raise TeacherError(
                f"the weights in {place} are damaged: {count} of {parameter.numel()} numbers of {name} are NaN or infinite",
                expected="finite numbers",
                hint="fetch them again",
            )


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own reports; ours say what matters, once."""
    level = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
