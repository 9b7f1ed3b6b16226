"""How a server is asked that is away, or that wants fewer questions: again later, for so long, and by fewer at a time."""

import logging
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cross4d_cache.errors import CacheUnreachableError, SettingsError
from cross4d_cache.redaction import redact
from cross4d_cache.store.storage.source import CONNECTIONS

WAIT_MINUTES = "CROSS4D_WAIT_MINUTES"
"""Environment variable: how long a server that is away is waited for. Without it, one that never answered is given up after seconds:
its address may be wrong."""
DEFAULT_MINUTES = 10.0
MOST_MINUTES = 60 * 24 * 365
ATTEMPTS = 6
"""Requests in a row that bring nothing new before waiting is thought of; any byte that arrives starts the count anew."""
FIRST_WAIT = 0.2
"""Seconds before the second attempt; each later one waits twice as long."""
LONGEST_WAIT = 30.0
RECOVERY = 64
"""Answers after which a server that once had too many requests gets one more at a time."""

_LOG = logging.getLogger(__name__)


class AgainError(Exception):
    """A request that may succeed later.

    `retry_after` is in how many seconds the server wants to be asked again, if it says so, and `crowded` that it had too many requests.
    `lasting` failures are not those of a server that is away: they are tried a few times and no more.
    """

    def __init__(self, reason: str, *, retry_after: float | None = None, crowded: bool = False, lasting: bool = False) -> None:
        super().__init__(reason)
        self.retry_after, self.crowded, self.lasting = retry_after, crowded, lasting


class Patience:
    """What all requests to the server of `place` share. `minutes` is how long it is waited for; None: as the environment says.

    Raises:
        SettingsError: no number of minutes.
    """

    def __init__(self, place: str, minutes: float | None = None) -> None:
        self.place = place
        self.minutes = waiting_minutes() if minutes is None else _parse(str(minutes))
        self._asked_for = minutes is not None or bool(os.environ.get(WAIT_MINUTES))
        self._changed = threading.Condition()
        self._limit, self._active, self._answers = CONNECTIONS, 0, 0
        self._not_before = self._no_less_until = 0.0
        self._stops = 0
        self._reached = self._told = False

    @contextmanager
    def turn(self, stops: int) -> Iterator[bool]:
        """Around one request: begins when the server may be asked, by no more at a time than it bears; or, as False, when it is stopped."""
        with self._changed:
            while self._stops == stops and ((delay := self._not_before - time.monotonic()) > 0 or self._active >= self._limit):
                self._changed.wait(delay if delay > 0 else None)
            self._active += 1
        try:
            yield self._stops == stops
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def answered(self, *, well: bool) -> None:
        """The server gave an answer, be it that it cannot give the right one now."""
        with self._changed:
            self._reached = True
            if well:
                self._answers += 1
                self._limit = min(CONNECTIONS, self._limit + (self._answers % RECOVERY == 0))
                if self._told:
                    self._told = False
                    _LOG.warning("note: %s answers again", self.place)

    def trial(self) -> "Trial":
        """A piece of work that takes several requests if need be."""
        return Trial(self, self._stops)

    def stop(self) -> None:
        """End all trials that wait; those that begin after this are not concerned."""
        with self._changed:
            self._stops += 1
            self._changed.notify_all()

    def seconds(self, error: AgainError) -> float:
        """How long this kind of failure is waited out."""
        return self.minutes * 60 if not error.lasting and (self._reached or self._asked_for) else 0.0

    def sleep(self, seconds: float, error: AgainError, stops: int) -> bool:
        """Wait; whether it was not stopped meanwhile."""
        end = time.monotonic() + seconds
        with self._changed:
            if error.crowded and time.monotonic() >= self._no_less_until:  # once for all that were under way
                self._limit, self._no_less_until = max(1, self._limit // 2), end
            if error.retry_after is not None:
                self._not_before = max(self._not_before, end)
        return self._pause(seconds, stops)

    def _pause(self, seconds: float, stops: int) -> bool:
        with self._changed:
            return not self._changed.wait_for(lambda: self._stops != stops, seconds)

    def tell(self, error: AgainError) -> None:
        """Say, once for a time that the server is away, that it is waited for."""
        with self._changed:
            if not self._told:
                self._told = True
                about = redact(f"{self.place}: {error}")
                _LOG.warning("note: %s; waiting for it, up to %g minutes (%s)", about, self.minutes, WAIT_MINUTES)


class Trial:
    """The failures in a row of one piece of work."""

    def __init__(self, patience: Patience, stops: int) -> None:
        self._patience, self._stops = patience, stops
        self._failures, self._since = 0, 0.0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Around one request.

        Raises:
            CacheUnreachableError: nothing is waited for any more.
        """
        with self._patience.turn(self._stops) as may_ask:
            if not may_ask:
                raise _unreachable(f"{self._patience.place} is no longer waited for")
            yield

    def progressed(self) -> None:
        """Something new arrived."""
        self._failures = 0

    def failed(self, error: AgainError, what: str) -> None:
        """Wait before the next request.

        Raises:
            CacheUnreachableError: `what` has been tried for long enough.
        """
        now, patience = time.monotonic(), self._patience
        self._failures += 1
        if self._failures == 1:
            self._since = now
        left = patience.seconds(error) - (now - self._since)
        wait, asked = min(FIRST_WAIT * 2 ** (self._failures - 1), LONGEST_WAIT), error.retry_after or 0.0
        if (self._failures >= ATTEMPTS and left <= 0) or asked > max(left, FIRST_WAIT * 2**ATTEMPTS):
            asks = f", and asks for another {asked:.0f} seconds" if asked else ""
            raise _unreachable(f"{what} cannot be had: {error}{asks}")
        if left > 0 and (self._failures >= ATTEMPTS or asked > FIRST_WAIT * 2**ATTEMPTS):
            patience.tell(error)
        if not patience.sleep(max(wait, asked), error, self._stops):
            raise _unreachable(f"{what} cannot be had: {error}; it is no longer waited for")


def waiting_minutes() -> float:
    """How long servers that are away are waited for, as the environment says.

    Raises:
        SettingsError: no number of minutes.
    """
    said = os.environ.get(WAIT_MINUTES)
    return _parse(said) if said else DEFAULT_MINUTES


def _parse(said: str) -> float:
    try:
        minutes = float(said)
    except ValueError:
        minutes = math.nan
    if not 0 <= minutes <= MOST_MINUTES:
        raise SettingsError(f"{WAIT_MINUTES}={said[:40]}", expected="a number of minutes, 0 or more", hint="fix it, or leave it out")
    return minutes


def _unreachable(found: str) -> CacheUnreachableError:
    return CacheUnreachableError(
        found,
        hint="look at the address and the network, then run the same again; what has been loaded is kept. "
        f"{WAIT_MINUTES} says how long a server is waited for",
    )
