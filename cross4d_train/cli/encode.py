"""The command of `cross4d-train` that writes features: `encode`.

Heavy imports happen inside the command, so that `--help` answers at once.
"""

from pathlib import Path
from typing import Annotated

from cross4d_cache.local import local_path
from cross4d_cache.usage import parse_pairs
from cross4d_train.cli.options import (
    CLIPS,
    INPUT,
    OPTIONS,
    OUTPUT,
    STUDENT,
    DeviceOption,
    EncoderClassOption,
    JsonOption,
    QuietOption,
    option,
)


def encode(
    checkpoint: Annotated[str, option("--checkpoint", INPUT, f"Student: {STUDENT}.", metavar="FILE")],
    cache: Annotated[
        str | None, option("--cache", INPUT, "Store: folder, zip, or either at http://, https:// or s3://.", metavar="STORE")
    ] = None,
    data: Annotated[
        Path | None,
        option("--data", INPUT, "Instead of a store: your point-cloud files, as `build --dataset folder` takes them.", metavar="DIR"),
    ] = None,
    data_option: Annotated[
        list[str] | None, option("--option", INPUT, "How they are read, such as axes=x,-y,-z; repeatable.", metavar="KEY=VALUE")
    ] = None,
    exclude: Annotated[list[str] | None, option("--exclude", INPUT, "Leave out a sequence of --data; repeatable.", metavar="ID")] = None,
    encoder: EncoderClassOption = None,
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

    Colours are the first three principal components of features, the same for the whole store. Of --data a store without targets is built
    first, beside --out, with at most 4,096 points of each frame.
    """
    from cross4d_cache.console import follow, show_json
    from cross4d_cache.errors import SettingsError
    from cross4d_train.encode import EncodeRequest
    from cross4d_train.encode import encode as encode_work
    from cross4d_train.encoders import ENCODERS
    from cross4d_train.feature_files import FORMATS
    from cross4d_train.places import checkpoint_at
    from cross4d_train.resources import Resources

    names = tuple(name.strip() for name in formats.split(","))
    if not set(names) <= set(FORMATS):
        raise SettingsError(f"--format {formats}", expected=f"one or several of: {','.join(FORMATS)}", hint="separate them by commas")
    if (cache is None) == (data is None):
        found = "neither --cache nor --data" if cache is None else "both --cache and --data"
        raise SettingsError(found, expected="a store, or a folder of point-cloud files", hint="pass one of the two")
    if data is None and (data_option or exclude):
        raise SettingsError(
            "--option or --exclude with --cache", expected="a folder of point-cloud files", hint="leave it out, or pass --data"
        )
    if data is not None:
        checkpoint_at(checkpoint)  # a student that is not there is told before a store is built for it
    request = EncodeRequest(
        checkpoint=checkpoint,
        store=cache or build_points(data or Path(), data_option, exclude, out.with_name(f"{out.name}.zarr"), quiet=quiet),
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


def build_points(data: Path, options: list[str] | None, exclude: list[str] | None, store: Path, *, quiet: bool) -> str:
    """The store of a folder of point-cloud files, without targets, built or resumed."""
    from cross4d_cache.build.build import build_store
    from cross4d_cache.build.request import BuildRequest
    from cross4d_cache.console import follow

    request = BuildRequest.of_files(data, parse_pairs(options, setting="dataset.options"), exclude=tuple(exclude or ()))
    follow(build_store(request, store, device="cpu"), OPTIONS, quiet=quiet)
    return str(store)


COMMANDS = {"encode": encode}
