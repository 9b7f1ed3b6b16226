"""The command `cross4d-train`: pre-train an encoder on a store, and evaluate it.

Heavy imports happen inside the commands, so that `--help` answers at once.
"""

import typer

from cross4d_cache.errors import user_errors
from cross4d_cache.usage import Commands
from cross4d_train.cli import encode, evaluate, pretrain
from cross4d_train.cli.options import OPTIONS

app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

for name, command in {**pretrain.COMMANDS, **evaluate.COMMANDS, **encode.COMMANDS}.items():
    app.command(name)(command)


def main() -> None:
    """Entry point: user errors become one message and exit code 2."""
    with user_errors(OPTIONS):
        app()
