"""Options and settings as a user writes them, by name: what they become, and what is said where that cannot be."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cross4d_cache.errors import SettingsError
from cross4d_cache.record import Record

Options = TypeVar("Options", bound=BaseModel)
Model = TypeVar("Model", bound=Record)


def parse_options(model: type[Options], options: Mapping[str, Any], *, of: str) -> Options:
    """Options of a component, whose values may be text; `of` says of which.

    Raises:
        SettingsError: there is no such option, or it cannot have that value.
    """
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "(options)"
        raise SettingsError(
            f"option {field!r} of {of}: {first['msg'].removeprefix('Value error, ')}",
            expected=f"options: {', '.join(model.model_fields) or 'none'}",
        ) from None


def change(settings: Model, options: Mapping[str, object]) -> Model:
    """Settings with some replaced by dotted name, validated again.

    Raises:
        SettingsError: a setting that there is not, or a value that cannot work.
    """
    record: dict[str, Any] = settings.model_dump()
    for name, value in options.items():
        *groups, field = name.split(".")
        target: dict[str, Any] = record
        known: Record = settings
        for group in groups:
            target, known = _within(target, known, group, name)
        if field not in type(known).model_fields:
            raise _no_setting(name, known)
        target[field] = value
    try:
        return type(settings).model_validate(record, extra="allow")
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        setting = ".".join(part for part in first["loc"] if isinstance(part, str))
        raise SettingsError(f"{name} = {first['input']!r}", expected=first["msg"], hint=f"choose another `{setting}`") from None


def value_of(settings: Record, name: str) -> Any:
    """A setting by dotted name, as JSON has it."""
    found: Any = settings.model_dump(mode="json")
    for part in name.split("."):
        found = found[part]
    return found


def _within(target: dict[str, Any], known: Record, group: str, name: str) -> tuple[dict[str, Any], Record]:
    """A group of settings, as values and as a record."""
    inner = getattr(known, group, None)
    if group not in type(known).model_fields or not isinstance(inner, Record):
        raise _no_setting(name, known)
    return target[group], inner


def _no_setting(name: str, known: Record) -> SettingsError:
    names = ", ".join(type(known).model_fields) or "none"
    return SettingsError(f"there is no setting {name!r}", expected=f"one of: {names}", hint="correct its name")
