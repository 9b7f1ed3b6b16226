"""What is recorded, and how it grows: what was written yesterday opens tomorrow (docs/cache_format.md, "What may be added").

A later field is optional: absent means its default, and the default is not written. So a record that a release has read is written again
exactly as it was, and its hash is that of what was recorded, not of the fields that the running release happens to have.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_serializer, model_validator

REQUIRES = "requires"
"""Key of a recorded object: names of its fields that a reader must know, or refuse the object."""

ABSENT = "not set"
"""What is said of a later field that a record does not have."""

RECORD = TypeVar("RECORD", bound="Record")


class RecordError(ValueError):
    """A record that cannot be read; `field` is the dotted name of the first field that is wrong, if it is one field."""

    def __init__(self, found: str, field: str | None = None) -> None:
        super().__init__(found if field is None else f"field {field!r}: {found}")
        self.found, self.field = found, field


class NewerRecordError(RecordError):
    """A record that has fields which its writer says must be known, and this release does not know them."""


class Record(BaseModel):
    """A recorded object. Code may only name its known fields; `from_json` keeps optional ones of a newer release, to write them again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def from_json(cls: type[RECORD], data: bytes | str) -> RECORD:
        """A record of any release, from JSON.

        Raises:
            NewerRecordError: it has fields that must be known, and this release does not know them.
            RecordError: it is none.
        """
        try:
            record = cls.model_validate_json(data, strict=True, extra="allow")
        except ValidationError as error:
            missing = sorted(_not_known(cls, _parsed(data)))
            if missing:
                raise NewerRecordError(f"made by a newer release: this one does not know {', '.join(missing)[:200]}") from None
            first = error.errors()[0]
            raise RecordError(first["msg"][:200], ".".join(map(str, first["loc"]))[:200] or None) from None
        return record

    @property
    def unknown(self) -> tuple[str, ...]:
        """Dotted names of the optional fields that a newer release wrote, here and within."""
        return tuple(_unknown(self, ""))

    @model_validator(mode="after")
    def _check_required(self: RECORD) -> RECORD:
        """Refuse what must be known and is not; what remains of the mark is made anew when the record is written."""
        names = (self.__pydantic_extra__ or {}).pop(REQUIRES, [])
        if not isinstance(names, list) or any(name not in type(self).model_fields for name in names):
            raise ValueError(f"{REQUIRES}: {str(names)[:80]}")
        return self

    @model_serializer(mode="wrap")
    def _write(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Known fields that are not at a later field's default, the fields of a newer release, and the mark of those that must be known."""
        written = {**handler(self), **(self.__pydantic_extra__ or {})}
        required = sorted(name for name in written if name in _must_be_known(type(self)))
        return {**written, REQUIRES: required} if required else written


def added(default: Any, *, must_be_known: bool = False, **constraints: Any) -> Any:
    """A field that a release after 0.1 added to a record: absent means `default`, which is not written.

    With `must_be_known`, releases that do not know the field refuse records in which it has another value.
    """
    return Field(
        default=default,
        exclude_if=lambda value: bool(value == default),
        json_schema_extra={"must_be_known": must_be_known},
        **constraints,
    )


def newer_note(record: Record, what: str) -> str | None:
    """A line for people, if a newer release recorded fields of `what` that this one keeps and does not understand."""
    if not record.unknown:
        return None
    return f"note: {what} was made by a newer release; kept, and not understood here: {', '.join(record.unknown)[:200]}"


def differences(mine: Record, theirs: Record) -> list[str]:
    """One line for each field, by dotted name, in which two records differ; absent fields have their default."""
    return compare(mine.model_dump(mode="json"), theirs.model_dump(mode="json"))


def compare(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """As `differences`, of records as they are written. Marks of fields that must be known follow from the fields."""
    left, right = flatten(mine), flatten(theirs)
    return [
        f"{name}: {_shown(left, name)} here, {_shown(right, name)} there"
        for name in sorted({**left, **right})
        if name.rpartition(".")[2] != REQUIRES and _differ(left, right, name)
    ]


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every field of a written record by its dotted name."""
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= flatten(item, f"{prefix}{name}.") if isinstance(item, Mapping) else {f"{prefix}{name}": item}
    return flat


def _differ(left: Mapping[str, Any], right: Mapping[str, Any], name: str) -> bool:
    return (name in left) != (name in right) or bool(left[name] != right[name])


def _shown(flat: Mapping[str, Any], name: str) -> str:
    return str(flat[name]) if name in flat else ABSENT


@cache
def _must_be_known(model: type[Record]) -> frozenset[str]:
    extras = {name: field.json_schema_extra for name, field in model.model_fields.items()}
    return frozenset(name for name, extra in extras.items() if isinstance(extra, dict) and extra.get("must_be_known"))


def _unknown(value: object, path: str) -> Iterator[str]:
    """Names of fields that are not known, with those of records in tuples under the name of the tuple."""
    if isinstance(value, Record):
        yield from (f"{path}{name}" for name in value.__pydantic_extra__ or ())
        for name in type(value).model_fields:
            yield from _unknown(getattr(value, name), f"{path}{name}.")
    elif isinstance(value, tuple):
        yield from dict.fromkeys(name for item in value for name in _unknown(item, path))


def _not_known(model: type[Record], value: object) -> Iterator[str]:
    """Dotted names of the fields that a parsed record says must be known, and that this release does not know."""
    if not isinstance(value, dict):
        return
    names = value.get(REQUIRES)
    yield from (str(name) for name in (names if isinstance(names, list) else ()) if name not in model.model_fields)
    for name, field in model.model_fields.items():
        items = value.get(name)
        for inner in _records_of(field.annotation):
            for item in items if isinstance(items, list) else [items]:
                yield from (f"{name}.{missing}" for missing in _not_known(inner, item))


def _records_of(annotation: object) -> Iterator[type[Record]]:
    if isinstance(annotation, type) and issubclass(annotation, Record):
        yield annotation
    for argument in get_args(annotation):
        yield from _records_of(argument)


def _parsed(data: bytes | str) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
