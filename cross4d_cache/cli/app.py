"""The command `cross4d-cache`: it translates options into requests, and settings in messages back into options."""

from typing import Annotated

import typer

from cross4d_cache.cli import build, look, share
from cross4d_cache.cli.options import OPTIONS, example
from cross4d_cache.errors import user_errors
from cross4d_cache.usage import Commands

app = typer.Typer(
    cls=Commands,
    help="Stage one: point-cloud sequences -> rendered frames -> frozen 2D teacher -> per-point targets in a Zarr store.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> bool:
    if asked:
        from importlib.metadata import version

        from cross4d_cache.console import show

        show([f"cross4d {version('cross4d')}"])
        raise typer.Exit
    return asked


@app.callback()
def _app(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", callback=_version)] = False) -> None:
    """What holds for all commands."""


app.command(
    epilog=example(
        "cross4d-cache build --dataset folder --data scans --out scans.zarr",
        "cross4d-cache build --teacher vjepa2 --dataset ntu_rgbd --data NTU --dry-run",
    )
)(build.build)
app.command("check-data", epilog=example("cross4d-cache check-data --dataset ntu_rgbd --data NTU --read-all"))(build.check_data)
app.command()(build.teachers)
app.command(epilog=example("cross4d-cache info store.zarr", "cross4d-cache info store.zarr --fidelity --data NTU"))(look.info)
app.command(epilog=example("cross4d-cache verify store.zarr"))(look.verify)
app.command(epilog=example("cross4d-cache merge monday.zarr tuesday.zarr week.zarr"))(share.merge)
app.command(epilog=example("cross4d-cache subset store.zarr train.zarr --split train"))(share.subset)
app.command(epilog=example("cross4d-cache derive store.zarr control.zarr --correspondence shuffled"))(share.derive)
app.command(epilog=example("cross4d-cache pack store.zarr store.zip"))(share.pack)
app.command(epilog=example("cross4d-cache pull https://lab.example/store.zip store.zarr"))(share.pull)


def main() -> None:
    """Entry point: user errors become one message and exit code 2."""
    with user_errors(OPTIONS):
        app()
