"""Numbers that mean nothing are refused by name: targets that are none, features and losses that are not finite."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from jaxtyping import Float16, Float32
from torch import Tensor, nn

from cross4d_cache.errors import CacheFormatError, CheckpointError, Cross4DError, SettingsError
from cross4d_cache.store import Cache
from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Tokens


def check_any_target(cache: Cache, chosen: Sequence[int], objective: str) -> None:
    """Refuse sequences none of whose points has a target for an objective: every loss would be 0. Reads as far as the first target.

    Raises:
        SettingsError: there is none.
    """
    parts, place = cache.manifest.parts, cache.storage.place
    if not any(part.num_rows for part in parts):
        raise SettingsError(
            f"{place} holds no targets, which objective {objective} learns",
            hint="build it with a teacher: `cross4d-cache build --teacher NAME`",
        )
    if any(part.num_visible for part in parts) and any(_has_target(cache, index) for index in chosen):
        return
    raise SettingsError(
        f"no camera sees a point of the {len(chosen)} sequences of {place} that objective {objective} is to learn from",
        expected="points with targets",
        hint="look at it with `cross4d-cache info --png FILE`, and build the store with other cameras",
    )


def _has_target(cache: Cache, index: int) -> bool:
    frames = np.arange(cache.sequences[index].num_frames)
    return bool((cache.read_clip(index, frames).rows >= 0).any())


def check_targets(features: Float16[np.ndarray, "row channel"], cache: Cache, index: int) -> None:
    """Refuse the targets of a sequence if they are no numbers.

    Raises:
        CacheFormatError: they are not finite.
    """
    if not np.isfinite(features).all():
        raise no_numbers("targets", cache, (index,))


def no_numbers(what: str, cache: Cache, sequences: Sequence[int]) -> CacheFormatError:
    """The error for a store that was written with NaN or infinities; its bytes are intact."""
    names = ", ".join(cache.sequences[index].id for index in sequences[:3])
    return CacheFormatError(
        f"{cache.storage.place} was built with {what} that are NaN or infinite, in {names}",
        expected="finite numbers",
        hint="its bytes are as they were written, so `verify` finds nothing; build it again, with other weights or in another precision",
    )


def why_not_finite(loss: float, step: int, batch: Batch, cache: Cache) -> Cross4DError:
    """The error for a loss that is NaN or infinite: the store's, if its numbers are, else the run's."""
    for what, values in (("targets", batch.features), ("targets", batch.frame_features), ("points", batch.points)):
        if not bool(values.isfinite().all()):
            return no_numbers(what, cache, batch.sequences.tolist())
    return SettingsError(
        f"the loss became {loss} at step {step}",
        expected="a finite number",
        hint="lower `training.learning_rate` and start anew with another `out`; the last checkpoint is whole",
    )


def check_loss(loss: Float32[Tensor, ""]) -> None:
    """Refuse to train a head or an encoder on.

    Raises:
        SettingsError: the loss is not finite.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise SettingsError(
            f"the loss became {value} while labels were learned",
            expected="a finite number",
            hint="lower `learning_rate`, or see to the checkpoint",
        )


@contextmanager
def finite_features(encoder: nn.Module) -> Iterator[None]:
    """Whatever the encoder gives meanwhile is checked.

    Raises:
        CheckpointError: features that are not finite.
    """

    def check(_: nn.Module, __: object, tokens: Tokens) -> None:
        if not bool(tokens.features.isfinite().all()):
            raise CheckpointError(
                "the encoder gives features that are NaN or infinite",
                expected="finite numbers",
                hint="the weights of the checkpoint are useless, or points of the store lie far off; see `cross4d-cache info`",
            )

    handle = encoder.register_forward_hook(check)
    try:
        yield
    finally:
        handle.remove()


def all_alike(features: Float32[Tensor, "video window channel"]) -> bool:
    """Whether features say nothing of any clip."""
    flat = features.flatten(0, 1)
    return bool((flat.std(dim=0, correction=0) <= 1e-6 * flat.abs().amax(dim=0)).all())
