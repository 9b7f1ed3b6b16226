"""Shapes and types of every annotated call of the packages are checked while tests run, by beartype; shapes with jaxtyping.

jaxtyping's import hook decorates all functions alike, and the names of axes that it keeps for each call cost ten times as much as the
check of the types. Five functions of six have no array: those are checked by beartype alone.
"""

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, ForwardRef, get_args

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook

_with_axes = jaxtyping.jaxtyped


def check_packages(*names: str) -> None:
    """Check packages that are not imported yet."""
    jaxtyping.jaxtyped = _decorator  # what the hook writes into the modules it imports
    install_import_hook(list(names), "beartype.beartype")


def _decorator(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda found: _with_axes(found, typechecker=typechecker) if _needs_axes(found) else _with_types(found)


def _needs_axes(found: Any) -> bool:
    function = found.__init__ if inspect.isclass(found) else found
    return any(map(_may_have_arrays, getattr(function, "__annotations__", {}).values()))


def _may_have_arrays(annotation: Any) -> bool:
    """Names in quotes are left to jaxtyping, which passes over those that only a type checker imports."""
    if isinstance(annotation, str | ForwardRef):
        return True
    return (inspect.isclass(annotation) and issubclass(annotation, AbstractArray)) or any(map(_may_have_arrays, get_args(annotation)))


def _with_types(found: Any) -> Any:
    if not inspect.isclass(found):
        return beartype(found)
    if is_dataclass(found) and "__init__" in vars(found):
        found.__init__ = beartype(found.__init__)
    return found
