"""The command of `cross4d-train` that hands a student on: `export`.

Heavy imports happen inside the command, so that `--help` answers at once.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cross4d_cache.local import local_path
from cross4d_train.cli.options import INPUT, OPTIONS, EncoderClassOption, JsonOption, option

ARGUMENTS = "Arguments"


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", rich_help_panel=ARGUMENTS, help="Folder of a run, or a checkpoint file.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", rich_help_panel=ARGUMENTS, help="Folder to write.", parser=local_path)],
    results: Annotated[
        list[Path] | None,
        option("--results", INPUT, "Result of an evaluation, written with its --out, for the card; repeatable.", metavar="FILE"),
    ] = None,
    license: Annotated[
        str | None, option("--license", INPUT, "Licence to hand it on under, as the hub writes it, such as apache-2.0.", metavar="NAME")
    ] = None,
    notes: Annotated[
        Path | None, option("--notes", INPUT, "Markdown for the card, in your own words: what it knows, and what not.", metavar="FILE")
    ] = None,
    encoder: EncoderClassOption = None,
    json: JsonOption = False,
) -> None:
    """Write a trained student to hand on: model.safetensors, config.json, and a model card, README.md.

    Every --checkpoint and `cross4d_train.load` take the folder, a zip of it, its address on a web server, and its id on the hub.
    """
    from cross4d_cache.console import follow, show_json
    from cross4d_train.encoders import ENCODERS
    from cross4d_train.export import ExportRequest
    from cross4d_train.export import export as export_work

    name = None if encoder is None else ENCODERS.name_of(encoder)
    request = ExportRequest(run=run, out=out, results=tuple(results or ()), license=license, notes=notes, encoder=name)
    result = follow(export_work(request), OPTIONS)
    if json:
        show_json(result)
    else:
        print(result.describe())


COMMANDS: dict[str, Callable[..., None]] = {"export": export}
