"""Two lists that are joined by name: what found its partner, what did not, and what it probably was meant to be.

Names are compared as Unicode composes them (NFC): file systems and editors write the same `é` in two ways. A name that differs by zeros
at the front of a number (`1` for `001`, as spreadsheets save it) or by case is another name; it is only pointed at.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cross4d_cache.errors import DatasetError

SHOWN = 5
"""Names that a line lists."""


def composed(name: str) -> str:
    """A name in the form in which names are compared."""
    return unicodedata.normalize("NFC", name)


def first_of(names: Iterable[str]) -> str:
    """Some names for a line, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (f", ... ({len(listed) - SHOWN:,} more)" if len(listed) > SHOWN else "")


@dataclass(frozen=True)
class Join:
    """The rows of a list and the sequences that they speak of.

    `partners` maps each row that found its sequence to the sequence's id; `extra_rows` and `extra_sequences` found none. `resembling` maps
    rows without a sequence to sequences without a row that they differ from by zeros at the front or by case alone.
    """

    title: str
    partners: Mapping[str, str]
    extra_rows: tuple[str, ...]
    extra_sequences: tuple[str, ...]
    resembling: Mapping[str, str]

    def check(self) -> None:
        """Refuse a list whose rows all speak of something else.

        Raises:
            DatasetError: there are rows and sequences, and none of them belong together.
        """
        if self.extra_rows and self.extra_sequences and not self.partners:
            raise DatasetError(
                f"{self.title}: none of its {len(self.extra_rows):,} rows names a sequence: {first_of(self.extra_rows)}",
                expected=f"ids of sequences: {first_of(self.extra_sequences)}",
                hint="; ".join([*self.hints(), "correct the names in the list, or move it out of the folder"]),
            )

    def lines(self) -> Iterator[str]:
        """What a user should know, a line each; none where every row and every sequence has its partner."""
        if self.extra_rows:
            yield f"{self.title}: {count_of(self.extra_rows, 'row')} without a sequence: {first_of(self.extra_rows)}"
        if self.extra_sequences:
            yield f"{self.title}: {count_of(self.extra_sequences, 'sequence')} without a row: {first_of(self.extra_sequences)}"
        yield from (f"{self.title}: {hint}" for hint in self.hints())

    def hints(self) -> Iterator[str]:
        """What rows without a sequence were probably meant to be."""
        by_case = {row: name for row, name in self.resembling.items() if row.casefold() == name.casefold()}
        by_zeros = {row: name for row, name in self.resembling.items() if row not in by_case}
        for pairs, reason in ((by_zeros, "zeros at the front; a spreadsheet keeps them in columns of text"), (by_case, "case")):
            if pairs:
                row, name = next(iter(pairs.items()))
                yield f"{row!r} resembles {name!r} but for {reason} ({count_of(pairs, 'such row')})"


def join(title: str, rows: Iterable[str], sequences: Iterable[str]) -> Join:
    """Join the names of a list with ids. Of several spellings of one name, each first takes the one that is spelt as it is."""
    rows, ids = list(dict.fromkeys(rows)), list(dict.fromkeys(sequences))
    known = set(ids)
    partners = {row: row for row in rows if row in known}
    free: dict[str, str] = {}
    for name in ids:
        if name not in partners:
            free.setdefault(composed(name), name)
    for row in rows:
        if row not in partners and (name := free.pop(composed(row), "")):
            partners[row] = name
    extra_rows = tuple(row for row in rows if row not in partners)
    taken = set(partners.values())
    extra_sequences = tuple(name for name in ids if name not in taken)
    return Join(title, partners, extra_rows, extra_sequences, resembling(extra_rows, extra_sequences))


def resembling(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """For names that are not known, those known ones that they differ from by zeros at the front or by case alone."""
    by_likeness: dict[str, list[str]] = {}
    for name in known:
        by_likeness.setdefault(_likeness(name), []).append(name)
    found = {name: by_likeness.get(_likeness(name), []) for name in names}
    return {name: like[0] for name, like in found.items() if len(like) == 1}


def look_alikes(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of names that differ by zeros at the front of numbers or by case alone."""
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(_likeness(name), name)
        if first != name:
            yield first, name


def _likeness(name: str) -> str:
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", composed(name).casefold())


def count_of(items: Iterable[object], noun: str) -> str:
    """How many there are of something, in words."""
    number = len(list(items))
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
