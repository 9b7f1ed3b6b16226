"""Recorded objects: later fields are optional, unknown ones are kept, those that must be known are refused by name."""

import json
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

import cross4d_cache
import cross4d_train
from cross4d_cache.record import NewerRecordError, Record, RecordError, added, differences


class Inner(Record):
    size: int
    text: str | None = added(None)


class Outer(Record):
    name: str
    inner: Inner
    several: tuple[Inner, ...] = ()
    rule: str = added("old", must_be_known=True)


OLD = '{"name":"a","inner":{"size":1},"several":[{"size":2}]}'


def test_a_later_field_is_not_written_at_its_default() -> None:
    record = Outer.from_json(OLD)
    assert (record.rule, record.inner.text) == ("old", None)
    assert record.model_dump(mode="json") == json.loads(OLD)
    assert Outer.from_json(record.model_dump_json()) == record


def test_another_value_is_written_with_the_mark_of_what_must_be_known() -> None:
    record = Outer(name="a", inner=Inner(size=1, text="t"), rule="new")
    written = record.model_dump(mode="json")
    assert written == {"name": "a", "inner": {"size": 1, "text": "t"}, "several": [], "rule": "new", "requires": ["rule"]}
    assert Outer.from_json(json.dumps(written)) == record


def test_optional_fields_of_a_newer_release_are_kept_named_and_written_again() -> None:
    text = '{"name":"a","inner":{"size":1,"hue":[1,{"deep":2.5}]},"several":[{"size":2,"hue":3}],"later":{"x":null}}'
    record = Outer.from_json(text)
    assert record.unknown == ("later", "inner.hue", "several.hue")
    assert record.model_dump(mode="json") == json.loads(text)
    assert json.loads(record.model_copy(update={"name": "b"}).model_dump_json()) == {**json.loads(text), "name": "b"}
    assert record != Outer.from_json(OLD)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"name":"a","inner":{"size":1},"later":2,"requires":["later"]}', "does not know later"),
        ('{"name":"a","inner":{"size":"other","hue":1,"requires":["hue"]}}', "does not know inner.hue"),
        ('{"name":"a","inner":{"size":1},"several":[{"size":1},{"hue":2,"requires":["hue"]}]}', "does not know several.hue"),
    ],
)
def test_fields_that_must_be_known_are_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(NewerRecordError, match=said):
        Outer.from_json(text)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"name":1,"inner":{"size":1}}', "name"),
        ('{"name":"a","inner":{"size":"1"}}', "inner.size"),
        ('{"name":"a"}', "inner"),
        ('{"name":"a","inner":{"size":1},"requires":7}', None),
        ("[" * 100_000, None),
        ("", None),
    ],
)
def test_what_is_no_record_is_refused(text: str, field: str | None) -> None:
    with pytest.raises(RecordError) as caught:
        Outer.from_json(text)
    assert not isinstance(caught.value, NewerRecordError)
    assert caught.value.field == field


def test_code_may_name_only_what_is_known() -> None:
    with pytest.raises(ValidationError):
        Inner.model_validate({"size": 1, "hue": 2})


def test_differences_are_between_what_was_recorded() -> None:
    old, new = Outer.from_json(OLD), Outer.from_json(OLD[:-1] + ',"rule":"new","later":1,"requires":["rule"]}')
    assert differences(old, new) == [
        "later: not set here, 1 there",
        "rule: not set here, new there",
    ]
    assert differences(old, Outer.from_json(OLD)) == []


FOREIGN = {"_Fields"}
"""Files that others write."""


def every(kind: type) -> set[type]:
    return {kind}.union(*(every(child) for child in kind.__subclasses__()))


def test_whatever_this_project_records_can_grow() -> None:
    for package in (cross4d_cache, cross4d_train):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(".__main__"):
                import_module(module.name)
    ours = {kind for kind in every(BaseModel) if kind.__module__.startswith("cross4d_")}
    assert len(ours) > 40
    assert {kind.__name__ for kind in ours if not issubclass(kind, Record)} <= FOREIGN


def test_the_next_release_opens_what_this_one_and_the_first_wrote() -> None:
    """A process in which every recorded model has one field more."""
    code = "from tests.grown_release import grow; grow(); from tests.grown_release import check; check()"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-1] == "whole"
