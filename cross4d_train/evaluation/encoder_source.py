"""Where the encoder of an evaluation comes from: a checkpoint, or a seed if it is the untrained control."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from cross4d_cache.errors import SettingsError
from cross4d_cache.types import Side
from cross4d_train.checkpoint import load_checkpoint, load_encoder
from cross4d_train.clips import ClipSettings
from cross4d_train.encoders import ENCODERS
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.places import checkpoint_at
from cross4d_train.settings import EncoderSettings, Origin, RunSettings, recipe_clips

UNTRAINED = "random"
"""In place of a checkpoint: an encoder with starting weights."""


@dataclass(frozen=True, kw_only=True)
class EncoderSource:
    """An encoder and the clips it is used to; the protocol, the side of it and the cache it learned from and its run, None if untrained."""

    label: str
    encoder: Encoder
    settings: EncoderSettings
    clips: ClipSettings
    protocol: str | None
    side: Side | None
    origin: Origin | None
    step: int
    training: RunSettings | None = None


def recorded_places(places: Iterable[str]) -> tuple[str, ...]:
    """Places as a result names them: as they were given, but of absolute paths the end alone; the folders above are nobody else's matter.

    The end is the file and its folder, or more where that does not tell the places apart.
    """
    given = tuple(places)
    for length in count(2):
        named = tuple("/".join(Path(place).parts[-length:]) if Path(place).is_absolute() else place for place in given)
        if len(set(named)) == len(set(given)):
            break
    return named


def open_source(checkpoint: str, *, encoder: EncoderSettings | None, seed: int, dataset: str) -> EncoderSource:
    """The encoder of a checkpoint, named by any place that `checkpoint_at` takes, or for `random` one of these settings and that seed with
    the clips of the recipe.

    Beside a checkpoint, `encoder` may name the class of its encoder, one that is not of this package.

    Raises:
        CheckpointError: there is none, it cannot be read, or it does not fit.
        CacheUnreachableError, OutputError: as `checkpoint_at`.
        SettingsError: unknown encoder, or beside a checkpoint one of this package, a size or options.
    """
    if checkpoint == UNTRAINED:
        settings = (encoder or EncoderSettings()).settled()
        return EncoderSource(
            label=UNTRAINED,
            encoder=settings.build(seed),
            settings=settings,
            clips=recipe_clips(dataset),
            protocol=None,
            side=None,
            origin=None,
            step=0,
        )
    loaded = load_checkpoint(checkpoint_at(checkpoint))
    return EncoderSource(
        label=checkpoint,
        encoder=load_encoder(loaded, _class_of(encoder)),
        settings=loaded.record.settings.encoder,
        clips=loaded.record.settings.clips,
        protocol=loaded.record.settings.training.protocol,
        side=loaded.record.settings.training.side,
        origin=loaded.record.origin,
        step=loaded.record.step,
        training=loaded.record.settings,
    )


def _class_of(encoder: EncoderSettings | None) -> str | None:
    """The name of the class that a checkpoint's encoder is said to be of."""
    if encoder is not None and (encoder.name in ENCODERS.built_in or encoder != EncoderSettings(name=encoder.name)):
        raise SettingsError(
            "`encoder.name`, `encoder.size` or `encoder.options` beside a checkpoint, which decides them",
            expected="at most the class of its encoder, module:Class, where it is not installed",
            hint="leave them out",
        )
    return None if encoder is None else encoder.name
