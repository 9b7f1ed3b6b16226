"""The command of `cross4d-train` that writes features: `encode`.

Heavy imports happen inside the command, so that `--help` answers at once.
"""

from pathlib import Path
from typing import Annotated

from cross4d_cache.local import local_path
from cross4d_cache.usage import component
from cross4d_train.cli.options import (
    CLIPS,
    ENCODER,
    INPUT,
    OPTIONS,
    OUTPUT,
    STUDENT,
    CacheOption,
    DeviceOption,
    JsonOption,
    QuietOption,
    option,
)


def encode(
    checkpoint: Annotated[str, option("--checkpoint", INPUT, f"Student: {STUDENT}.", metavar="FILE")],
    cache: CacheOption,
    encoder: Annotated[
        str | None,
        option(
            "--encoder",
            ENCODER,
            "The class of its encoder, where it is not installed.",
            metavar="MODULE:CLASS",
            parser=component,
        ),
    ] = None,
    limit: Annotated[int | None, option("--limit", INPUT, "Only the first N sequences.", min=1, metavar="N")] = None,
    stride: Annotated[
        int | None, option("--stride", CLIPS, "Let a clip have every N-th frame. (default: as in training)", min=1, metavar="N")
    ] = None,
    device: DeviceOption = "auto",
    out: Annotated[
        Path, option("--out", OUTPUT, "Folder to write; one that was begun is resumed.", parser=local_path, metavar="DIR")
    ] = Path("features"),
    formats: Annotated[
        str, option("--format", OUTPUT, "npy: arrays. ply: a file a frame, features as colours.", metavar="NAME,...")
    ] = "npy,ply",
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Write the encoder's feature of every point of a store: a folder a sequence, to be read by numpy and by viewers of .ply files.

    Colours are the first three principal components of features, the same for the whole store.
    """
    from cross4d_cache.console import follow, show_json
    from cross4d_cache.errors import SettingsError
    from cross4d_train.encode import EncodeRequest
    from cross4d_train.encode import encode as encode_work
    from cross4d_train.encoders import ENCODERS
    from cross4d_train.feature_files import FORMATS
    from cross4d_train.resources import Resources

    names = tuple(name.strip() for name in formats.split(","))
    if not set(names) <= set(FORMATS):
        raise SettingsError(f"--format {formats}", expected=f"one or several of: {','.join(FORMATS)}", hint="separate them by commas")
    request = EncodeRequest(
        checkpoint=checkpoint,
        store=cache,
        out=out,
        formats=tuple(name for name in FORMATS if name in names),
        stride=stride,
        limit=limit,
        encoder=None if encoder is None else ENCODERS.name_of(encoder),
    )
    result = follow(encode_work(request, Resources(device=device)), OPTIONS, quiet=quiet)
    if json:
        show_json(result)
    else:
        print(result.describe())


COMMANDS = {"encode": encode}
