"""How both command lines answer what was typed wrongly."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from cross4d_cache.redaction import redact

_UsageError: type[Any] = typer.BadParameter.__mro__[1]
"""What all errors of usage are; typer does not export it."""


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
