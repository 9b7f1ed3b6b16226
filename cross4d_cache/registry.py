"""Things that are known by name: datasets, teachers, encoders, objectives, evaluations."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from cross4d_cache.errors import SettingsError

Item = TypeVar("Item")


def look_up(known: Mapping[str, Item], name: str, *, what: str, setting: str) -> Item:
    """The item of a name; `what` says what kind of thing it is (`encoder`), `setting` where it is chosen (`encoder.name`).

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
