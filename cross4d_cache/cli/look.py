"""Commands that look at a store: `info`, `verify`.

Heavy imports happen inside the commands, so that `--help` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from cross4d_cache.cli.options import OPTIONS, Data, Json, Option, Quiet, Store
from cross4d_cache.local import local_path
from cross4d_cache.usage import component, parse_pairs


def info(
    store: Store,
    fidelity: Annotated[bool, typer.Option("--fidelity", help="Measure on a sample how well targets belong to their points.")] = False,
    read_all: Annotated[bool, typer.Option("--read-all", help="Take the extent of every sequence, not of eight.")] = False,
    dataset: Annotated[
        str | None,
        typer.Option(parser=component, metavar="MODULE:CLASS", help="The reader of the raw data, where it is not installed."),
    ] = None,
    data: Data = None,
    option: Option = None,
    png: Annotated[
        Path | None, typer.Option("--png", parser=local_path, help="Also draw it: lengths, actions by split, coverage, a frame.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """What a store is: teacher, coverage, sizes, splits; instant, also for one that is not finished."""
    from dataclasses import asdict

    from cross4d_cache.build.extent import store_extent
    from cross4d_cache.console import follow, print_overview, print_result, show
    from cross4d_cache.errors import SettingsError
    from cross4d_cache.report.store import about, summary
    from cross4d_cache.store import open_cache

    if read_all if fidelity else (dataset or data or option):
        found = "--read-all with --fidelity" if fidelity else "--data, --option or --dataset without --fidelity"
        raise SettingsError(f"{found}, where it says nothing", hint="leave it out" if fidelity else "leave it out, or ask for --fidelity")
    cache = follow(about(open_cache(store, allow_partial=not fidelity)), OPTIONS)
    if png is not None:
        from cross4d_cache.report.picture import draw_summary

        draw_summary(cache, png)
    if fidelity:
        from cross4d_cache.datasets import DATASETS
        from cross4d_cache.report.fidelity import describe, measure_fidelity

        if dataset is not None:
            DATASETS.name_of(dataset)
        report = follow(measure_fidelity(store, data, parse_pairs(option, setting="dataset.options")), OPTIONS, quiet=quiet)
        if as_json:
            print_result(asdict(report), as_json, OPTIONS)
        else:
            show(describe(report), OPTIONS)
        return
    extent = follow(store_extent(cache, read_all=read_all), OPTIONS, quiet=quiet)
    if as_json:
        print_result({**summary(cache), "extent": None if extent is None else extent.as_record()}, as_json, OPTIONS)
        return
    spherical = cache.manifest.render.camera_model == "spherical"
    print_result(summary(cache), as_json)
    show(extent.report(cache.manifest.reader_options, spherical=spherical) if extent else [""], OPTIONS)
    print_overview(cache)


def verify(store: Store, quiet: Quiet = False, as_json: Json = False) -> None:
    """Compare every byte of a finished store with the hashes taken when it was written, and say what fixes what is damaged."""
    from cross4d_cache.console import follow, print_result, say
    from cross4d_cache.join import count_of, first_of
    from cross4d_cache.store.verify import verify_store

    found = follow(verify_store(store), OPTIONS, quiet=quiet)
    if found.strays:
        say(f"note: {count_of(found.strays, 'file')} of something else, which no reader looks at: {first_of(found.strays)}")
    if as_json or found.intact:
        print_result(found.as_record(), as_json, OPTIONS)
    found.refuse()
