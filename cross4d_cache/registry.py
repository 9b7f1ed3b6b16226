"""Things that are known by name: datasets, teachers, encoders, objectives, evaluations."""

import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Generic, TypeVar, get_origin

from cross4d_cache.errors import SettingsError

Item = TypeVar("Item")

WORDS = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<name>[A-Z]\w*)")
"""How a class that is installed nowhere is named: `module:Class`."""


class Components(Generic[Item]):
    """The classes of one kind by name: those of this package, those of installed packages, and those given to this process.

    An installed package names its classes as entry points of the group `cross4d.datasets`, `cross4d.teachers`, `cross4d.encoders` or
    `cross4d.objectives`. Whoever runs the program gives others: on the command line and to `name_of` as `module:Class`, in Python as the
    class itself. A name alone only finds what is there. So no name in a file (a store, a checkpoint, settings, a request) imports
    anything, but for packages that were installed to be found by it.

    `taken` are names of this package that stand for no single class. `key` is a class variable that a class is known by; without one it
    is known as `module:Class`.
    """

    def __init__(
        self, kind: str, base: type, built_in: Mapping[str, type[Item]], *, taken: Iterable[str] = (), key: str | None = None
    ) -> None:
        self.kind, self.base, self.built_in, self.setting = kind, base, dict(built_in), f"{kind}.name"
        self.group, self._taken, self._key = f"cross4d.{kind}s", frozenset(taken), key
        self._given: dict[str, type[Item]] = {}

    def names(self) -> list[str]:
        """Every name that there is: of this package first, then of others, then of what was given."""
        ours = [*self.built_in, *sorted(self._taken)]
        return list(dict.fromkeys([*ours, *sorted(self._installed()), *self._given]))

    def has(self, name: str) -> bool:
        """Whether a name is known."""
        return name in self.names()

    def find(self, name: str) -> type[Item]:
        """The class of a name.

        Raises:
            SettingsError: nothing has that name; or an installed package has, and cannot be used.
        """
        points = self._installed().get(name, [])
        self._check_single(name, points)
        known = {**self._given, **self.built_in}
        if name in known:
            return known[name]
        if not points:
            raise self._unknown(name)
        return self._loaded(points[0])

    def name_of(self, component: type[Item] | str) -> str:
        """The name of a class that is given, or of words: a known name as it is, or `module:Class`, which is imported.

        Raises:
            SettingsError: the module cannot be imported, has no such class, or the class is none of this kind, not whole, or named as
                another one.
        """
        if not isinstance(component, str):
            return self._give(component)
        words = None if self.has(component) else WORDS.fullmatch(component)
        if words is None:
            return component
        try:
            found = getattr(importlib.import_module(words["module"]), words["name"])
        except Exception as error:  # whatever a module of somebody else's does
            raise SettingsError(
                f"{self.kind} {component} cannot be imported: {type(error).__name__}: {error}",
                expected="module:Class, of a module that Python finds",
                hint=f"correct it, or choose another `{self.setting}`",
            ) from error
        return self._give(found)

    def _give(self, component: type[Item]) -> str:
        self._check(component, what=f"{self.kind} {getattr(component, '__name__', component)!r}")
        name = str(getattr(component, self._key)) if self._key else f"{component.__module__}:{component.__name__}"
        elsewhere = name in self.built_in or name in self._installed()
        if name in self._taken or (elsewhere and self.find(name) is not component):
            raise SettingsError(
                f"{component.__module__}:{component.__name__} is a {self.kind} named {name!r}, which another one is called",
                expected="a name of its own",
                hint="rename it",
            )
        if not elsewhere:
            self._given[name] = component
        return name

    def _installed(self) -> dict[str, list[EntryPoint]]:
        """What installed packages bring, by name."""
        found: dict[str, list[EntryPoint]] = {}
        for point in _entry_points(self.group, tuple(sys.path)):
            found.setdefault(point.name, []).append(point)
        return found

    def _check_single(self, name: str, points: list[EntryPoint]) -> None:
        ours = ["this package"] * (name in self.built_in or name in self._taken)
        owners = [*ours, *sorted(_owner(point) for point in points)]
        if points and len(owners) > 1:
            raise SettingsError(f"{self.kind} {name!r} is brought by {' and by '.join(owners)}", expected="one", hint="uninstall the other")

    def _loaded(self, point: EntryPoint) -> type[Item]:
        what = f"{self.kind} {point.name!r} of {_owner(point)}"
        try:
            found = point.load()
        except Exception as error:  # whatever a module of somebody else's does
            raise SettingsError(
                f"{what} cannot be imported: {type(error).__name__}: {error}", hint="correct or uninstall that package"
            ) from error
        self._check(found, what=what)
        if self._key and getattr(found, self._key) != point.name:
            raise SettingsError(
                f"{what} says that its name is {getattr(found, self._key)!r}", expected="one name", hint="correct that package"
            )
        return found  # type: ignore[no-any-return]

    def _check(self, found: Any, *, what: str) -> None:
        """See that it is a class of this kind with all that belongs to one."""
        if not isinstance(found, type) or not issubclass(found, self.base):
            raise SettingsError(f"{what} is no {self.kind}", expected=f"a subclass of {self.base.__module__}.{self.base.__name__}")
        missing = sorted(getattr(found, "__abstractmethods__", ())) + [name for name in _class_variables(found) if not hasattr(found, name)]
        if missing:
            raise SettingsError(f"{what} is not whole", expected=f"that it says what {', '.join(missing)} is", hint="add what is missing")

    def _unknown(self, name: str) -> SettingsError:
        if not WORDS.fullmatch(name):
            return unknown_name(self.names(), name, what=self.kind, setting=self.setting)
        return SettingsError(
            f"{self.kind} {name} is not known here, and what is read from a file imports nothing",
            expected=f"an installed {self.kind}, or one that is given: of this package there are {', '.join(self.built_in) or 'others'}",
            hint=f"give it again: `{self.setting}` {name}, or in Python the class",
        )


@lru_cache(maxsize=8)
def _entry_points(group: str, _: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Entry points of a group; looked for again when the places where Python looks for packages change."""
    return tuple(entry_points(group=group))


def _owner(point: EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist else point.value


def _class_variables(component: type) -> list[str]:
    """What the classes that one inherits from declare as class variables."""
    return [name for cls in component.__mro__ for name, kind in inspect.get_annotations(cls).items() if _is_class_variable(kind)]


def _is_class_variable(kind: Any) -> bool:
    return get_origin(kind) is ClassVar


def look_up(known: Mapping[str, Item], name: str, *, what: str, setting: str) -> Item:
    """The item of a name; `what` says what kind of thing it is (`logger`), `setting` where it is chosen.

    Raises:
        SettingsError: nothing has that name.
    """
    if name not in known:
        raise unknown_name(known, name, what=what, setting=setting)
    return known[name]


def unknown_name(known: Iterable[str], name: str, *, what: str, setting: str) -> SettingsError:
    """The error of a name that is none of the known ones, with the one that was probably meant."""
    names = list(known)
    meant = suggestion(names, name)
    return SettingsError(
        f"unknown {what} {name!r}",
        expected=f"one of: {', '.join(names)}",
        hint=(f"{meant} " if meant else "") + f"choose one with `{setting}`",
    )


def suggestion(known: Iterable[str], name: str) -> str:
    """A question for the known names that resemble `name`, empty if none does."""
    close = get_close_matches(name, list(known), cutoff=0.7)
    return f"did you mean {' or '.join(close)}?" if close else ""
