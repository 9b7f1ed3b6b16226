"""Which parts a builder takes, one after the other, where others may be at work on the same store: without locks, and without claims."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cross4d_cache.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Share `number` of `count` of a build, counted from 1: every `count`-th of its parts.

    Raises:
        SettingsError: there is no such share.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise SettingsError(
                f"`shard` {self}",
                expected=f"1/{self.count} to {self.count}/{self.count}: shards are counted from 1" if self.count > 0 else "1/1 or more",
                hint="pass another `shard`",
            )

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """A share from `I/N`.

        Raises:
            SettingsError: it is something else, or there is no such share.
        """
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal()):
            raise SettingsError(f"`shard` {text}", expected="I/N, such as 1/4", hint="pass another `shard`")
        return cls(number=int(number), count=int(count))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def parts(self, num_parts: int) -> range:
        """Its parts of so many."""
        return range(self.number - 1, num_parts, self.count)


class Turns:
    """The parts that are missing, in turn. Before each of them it is looked whether another builder has made it meanwhile.

    One that is made so is skipped, and the builder goes on far from all others: near the middle of the longest run of parts that are
    missing, for where a run begins somebody is at work. `first` says that nobody was there before: parts are taken in order from the
    first one then. No two builders should draw the same from `places`; what is made does not depend on it.
    """

    def __init__(self, missing: Sequence[int], is_made: Callable[[int], bool], places: np.random.Generator, *, first: bool) -> None:
        self._parts, self._is_made, self._places = missing, is_made, places
        self._waiting = list(range(len(missing)))
        self._elsewhere = not first
        self.skipped: list[int] = []
        """Parts that others made meanwhile."""

    def move(self) -> None:
        """Go on elsewhere: another builder made the same part at the same time."""
        self._elsewhere = True

    def __iter__(self) -> Iterator[int]:
        place = 0
        while self._waiting:
            if self._elsewhere:
                self._elsewhere = False
                self._skip()
                place = self._far_place()
            elif place == len(self._waiting) or self._is_made(self._parts[self._waiting[place]]):
                self._elsewhere = True
            else:
                yield self._parts[self._waiting.pop(place)]

    def _skip(self) -> None:
        made = {index for index in self._waiting if self._is_made(self._parts[index])}
        self._waiting = [index for index in self._waiting if index not in made]
        self.skipped += [self._parts[index] for index in sorted(made)]

    def _far_place(self) -> int:
        """A place in the middle half of the longest run; several builders that look at the same time seldom draw the same."""
        ends = [place for place, index in enumerate(self._waiting, start=1) if self._waiting[place : place + 1] != [index + 1]]
        begin, end = max(zip([0, *ends], ends, strict=False), key=lambda run: run[1] - run[0], default=(0, 0))
        length = end - begin
        return begin + length // 2 + int(self._places.integers(-(length // 4), length // 4 + 1)) if length else 0
