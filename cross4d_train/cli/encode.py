"""The command of `cross4d-train` that writes features: `encode`.

Heavy imports happen inside the command, so that `--help` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from cross4d_cache.local import local_path
from cross4d_train.cli.options import OPTIONS, CacheOption, DeviceOption, JsonOption, QuietOption


def encode(
    checkpoint: Annotated[str, typer.Option("--checkpoint", help="Checkpoint file, or folder of a run.")],
    cache: CacheOption,
    out: Annotated[Path, typer.Option("--out", parser=local_path, help="Folder to write. One that was begun is resumed.")] = Path(
        "features"
    ),
    formats: Annotated[
        str, typer.Option("--format", help="npy: features, points, offsets of frames. ply: a file a frame, features as colours.")
    ] = "npy,ply",
    stride: Annotated[int | None, typer.Option("--stride", help="Of the frames that are seen together. (default: as in training)")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many sequences.")] = None,
    device: DeviceOption = "auto",
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
    )
    result = follow(encode_work(request, Resources(device=device)), OPTIONS, quiet=quiet)
    if json:
        show_json(result)
    else:
        print(result.describe())


COMMANDS = {"encode": encode}
