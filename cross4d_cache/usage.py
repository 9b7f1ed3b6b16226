"""What both command lines have in common: their version, their help, and how they answer what was typed wrongly."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cross4d_cache.errors import SettingsError
from cross4d_cache.redaction import redact
from cross4d_cache.registry import WORDS

_UsageError: type[Any] = typer.BadParameter.__mro__[1]
"""What all errors of usage are; typer does not export it."""


def make_command_line(description: str) -> typer.Typer:
    """A program of several commands, with `--version`, `-h` and completion by the shell."""
    app = typer.Typer(
        cls=Commands,
        help=description,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def program(
        _: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")] = False,
    ) -> None:
        """Nothing but the options of the program itself."""

    return app


def component(word: str) -> str:
    """A name, or `module:Class`, whose module may lie in the working folder: Python looks there too, after all other places."""
    if WORDS.fullmatch(word) and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return word


def worker_count(word: str) -> int | None:
    """A number of processes, None for `auto`."""
    if word == "auto":
        return None
    if not word.isdecimal():
        raise typer.BadParameter(f"{word!r} is neither auto nor a number of processes")
    return int(word)


def parse_pairs(pairs: Sequence[str] | None, *, setting: str) -> dict[str, str]:
    """Options from words such as `axes=x,y,z`.

    Raises:
        SettingsError: a word without `=`.
    """
    for pair in pairs or ():
        if "=" not in pair:
            raise SettingsError(f"`{setting}` {pair}", expected="KEY=VALUE", hint=f"write `{setting}` {pair}=VALUE")
    return dict(pair.split("=", 1) for pair in pairs or ())


def examples(*lines: str) -> str:
    """The end of a help page: lines to type."""
    return "\n\n".join(["Examples:" if len(lines) > 1 else "Example:", *lines])


def _show_version(asked: bool) -> bool:
    if asked:
        typer.echo(f"cross4d {version('cross4d')}")
        raise typer.Exit
    return asked


class Commands(TyperGroup):
    """A group of commands. What it quotes of a wrong line is redacted here, before typer lays it out and breaks addresses in two."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read the words before the name of a command."""
        with _redacted():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Read the words behind it, and run it."""
        with _redacted():
            return super().invoke(ctx)


@contextmanager
def _redacted() -> Iterator[None]:
    try:
        yield
    except _UsageError as error:
        error.message = redact(error.message)
        raise
