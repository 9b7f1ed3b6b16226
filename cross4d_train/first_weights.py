"""What a run begins with: weights that its seed draws, or the encoder of a checkpoint."""

from pathlib import Path

from cross4d_cache.errors import CheckpointError, SettingsError
from cross4d_cache.store.digest import sha256_file
from cross4d_train.checkpoint import load_checkpoint, load_encoder
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.settings import InitialWeights, RunSettings


def identify_weights(path: Path) -> InitialWeights:
    """What a run records of a checkpoint that it begins with.

    Raises:
        CheckpointError: it cannot be read.
    """
    record = load_checkpoint(path).record
    return InitialWeights(sha256=sha256_file(path), step=record.step, settings=record.settings, origin=record.origin)


def first_encoder(settings: RunSettings, initial: Path | None) -> Encoder:
    """The encoder that a run begins with.

    Raises:
        SettingsError: an encoder that does not exist, or another one than `initial` has.
        CheckpointError: `initial` is missing, cannot be read, or is not the file that the settings name.
    """
    begun = settings.initial
    if begun is None:
        return settings.encoder.build(settings.training.seed)
    if begun.settings.encoder != settings.encoder:
        theirs, mine = (f"{encoder.name} {encoder.size}" for encoder in (begun.settings.encoder, settings.encoder))
        raise SettingsError(
            f"the checkpoint of `initial` has the encoder {theirs}, and this run is to train {mine}",
            expected="the same encoder in the same size",
            hint="leave `encoder.name` and `encoder.size` out, or choose another `initial`",
        )
    if initial is None or identify_weights(initial).sha256 != begun.sha256:
        raise CheckpointError(
            "the run begins with the encoder of a checkpoint, and has saved nothing yet",
            expected=f"that checkpoint, sha256 {begun.sha256}",
            hint="name its file with `initial`",
        )
    return load_encoder(load_checkpoint(initial))
