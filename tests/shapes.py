"""Types of every annotated call of the packages are checked while tests run, by beartype, and shapes with them, by jaxtyping.

jaxtyping's import hook binds the arguments of every call and checks them twice, to say which one was wrong. That takes ten times as long as
the check, and a third of all tests. Here a call is checked once; axes of one name are compared within it, as there.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import wraps
from typing import Any, ForwardRef, get_args

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, TypeCheckError, install_import_hook


class WrongCallError(AssertionError):
    """A call that breaks its annotations. No `TypeError`, which the packages catch where a file or a model may be to blame."""


_jaxtyped = jaxtyping.jaxtyped
_with_types = beartype(conf=BeartypeConf(violation_type=WrongCallError))


def check_packages(*names: str) -> None:
    """Check packages that are not imported yet."""
    jaxtyping.jaxtyped = _decorator  # what the hook writes into the modules that it imports
    install_import_hook(list(names), "beartype.beartype")


def _decorator(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    def decorate(found: Any) -> Any:
        if not inspect.isclass(found):
            return _checked(found, typechecker)
        if is_dataclass(found) and "__init__" in vars(found):
            found.__init__ = _checked(found.__init__, typechecker)
        return found

    return decorate


def _checked(function: Callable[..., Any], typechecker: Callable[..., Any]) -> Callable[..., Any]:
    annotations = getattr(function, "__annotations__", {}).values()
    parts = [part for annotation in annotations for part in _parts(annotation)]
    # jaxtyping passes over quoted names, which only a type checker may have imported, and knows the arguments that axes are named after.
    if any(isinstance(part, str | ForwardRef) or "{" in getattr(part, "dim_str", "") for part in parts):
        return _renaming(_jaxtyped(function, typechecker=typechecker))
    checked = _with_types(function)
    if not any(inspect.isclass(part) and issubclass(part, AbstractArray) for part in parts):
        return checked

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        with _jaxtyped("context"):
            return checked(*arguments, **named)

    return call


def _renaming(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except TypeCheckError as error:
            raise WrongCallError(str(error)) from None

    return call


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)
