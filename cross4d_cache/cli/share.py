"""Commands that make stores of stores: `merge`, `subset`, `derive`, `pack`, `pull`.

Heavy imports happen inside the commands, so that `--help` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from cross4d_cache.cli.options import OPTIONS, Json, NewStore, Quiet, Store
from cross4d_cache.errors import SettingsError
from cross4d_cache.local import local_path


def merge(
    stores: Annotated[list[str], typer.Argument(metavar="STORE...", help="Finished stores of the same settings.")],
    out: NewStore,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """The union of several stores of the same settings; parts become hard links where they can."""
    from cross4d_cache.console import follow, print_result
    from cross4d_cache.report.store import summary
    from cross4d_cache.sharing import merge as sharing

    _check_order("merge", stores, out)
    print_result(summary(follow(sharing.merge(stores, out), OPTIONS, quiet=quiet)), as_json)


def subset(
    store: Store,
    out: NewStore,
    split: Annotated[str | None, typer.Option("--split", help="train, test, unsplit (in no split), train+unsplit.")] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", help="Of which protocol; default: the dataset's first.")] = None,
    action: Annotated[list[str] | None, typer.Option("--action", help="Name or number; repeatable.")] = None,
    sequences: Annotated[Path | None, typer.Option("--sequences", help="File with the id of a sequence on every line.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """The sequences of a store that meet all conditions, as a store of their own."""
    from cross4d_cache.console import follow, print_result
    from cross4d_cache.report.store import summary
    from cross4d_cache.sharing import subset as sharing

    _check_order("subset", [store], out)
    ids = None if sequences is None else sharing.read_ids(sequences)
    work = sharing.subset(store, out, split=split, protocol=protocol, actions=action or (), ids=ids)
    print_result(summary(follow(work, OPTIONS, quiet=quiet)), as_json)


def derive(
    store: Store,
    out: NewStore,
    correspondence: Annotated[str, typer.Option(help="shuffled: targets of other points of the same frame.")] = "shuffled",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """The control of a store, as `build` with this --correspondence makes it, but in seconds and without the teacher.

    Only patch slots differ; the other files become hard links where they can.
    """
    from cross4d_cache.console import follow, print_result
    from cross4d_cache.report.store import summary
    from cross4d_cache.sharing import derive as sharing

    print_result(summary(follow(sharing.derive(store, out, correspondence), OPTIONS, quiet=quiet)), as_json)


def pack(
    store: Store,
    out: Annotated[Path, typer.Argument(metavar="FILE.zip", parser=local_path, help="The file, which every command reads in place.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """A finished store as one file. `pull FILE.zip FOLDER` makes it a folder again."""
    from cross4d_cache.console import follow, print_result
    from cross4d_cache.sharing import pack as sharing

    size = follow(sharing.pack(store, out), OPTIONS, quiet=quiet)
    print_result({"file": str(out), "bytes": size}, as_json)


def pull(
    store: Store,
    out: NewStore,
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait", metavar="MINUTES", help="How long a server that is away is waited for; default: CROSS4D_WAIT_MINUTES, or 10."
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Copy a store from elsewhere, checked, and resume an earlier copy that was interrupted."""
    from cross4d_cache.console import follow, print_result
    from cross4d_cache.report.store import summary
    from cross4d_cache.sharing import pull as sharing

    print_result(summary(follow(sharing.pull(store, out, wait_minutes=wait), OPTIONS, quiet=quiet)), as_json)


def _check_order(command: str, stores: list[str], out: Path) -> None:
    """Refuse what release 0.1 wanted: the new store first, and its sources behind it.

    Raises:
        SettingsError: `out` is a finished store, and the first of `stores` is none.
    """
    from cross4d_cache.errors import CacheError
    from cross4d_cache.store import open_cache

    if not out.exists():
        return
    try:
        open_cache(stores[0])
    except CacheError:
        try:
            open_cache(out)
        except CacheError:
            return
        raise SettingsError(
            f"{stores[0]} is no finished store, but {out}, which stands last, is",
            expected="sources first, and the new store last",
            hint=f"cross4d-cache {command} {' '.join([*stores[1:], str(out), stores[0]])}",
        ) from None
