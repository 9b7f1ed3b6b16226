"""The command `cross4d-cache`: it translates options into requests, and settings in messages back into options."""

from collections.abc import Callable

from cross4d_cache.cli import build, look, share
from cross4d_cache.cli.options import OPTIONS
from cross4d_cache.errors import user_errors
from cross4d_cache.usage import examples, make_command_line

COMMANDS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "build": (
        build.build,
        (
            "cross4d-cache build --dataset folder --data scans --out scans.zarr",
            "cross4d-cache build --teacher vjepa2 --dataset ntu_rgbd --data NTU --dry-run",
        ),
    ),
    "check-data": (build.check_data, ("cross4d-cache check-data --dataset ntu_rgbd --data NTU --read-all",)),
    "teachers": (build.teachers, ("cross4d-cache teachers",)),
    "info": (look.info, ("cross4d-cache info store.zarr", "cross4d-cache info store.zarr --fidelity --data NTU")),
    "verify": (look.verify, ("cross4d-cache verify store.zarr",)),
    "merge": (share.merge, ("cross4d-cache merge monday.zarr tuesday.zarr week.zarr",)),
    "subset": (share.subset, ("cross4d-cache subset store.zarr train.zarr --split train",)),
    "derive": (share.derive, ("cross4d-cache derive store.zarr control.zarr --correspondence shuffled",)),
    "pack": (share.pack, ("cross4d-cache pack store.zarr store.zip",)),
    "pull": (share.pull, ("cross4d-cache pull https://lab.example/store.zip store.zarr",)),
}
"""Every command, and lines to type at the end of its help."""

app = make_command_line("Stage one: point-cloud sequences -> rendered frames -> frozen 2D teacher -> per-point targets in a Zarr store.")

for name, (command, lines) in COMMANDS.items():
    app.command(name, epilog=examples(*lines))(command)


def main() -> None:
    """Entry point: user errors become one message and exit code 2."""
    with user_errors(OPTIONS):
        app()
