"""Events of a recording (`action/color.json`) as an action for every frame.

Two spellings exist: `{"events": [{"event", "startTime", "endTime"}], "info": {"duration"}}` and
`{"markResult": {"marks": [{"event", "hdTimeStart", "hdTimeEnd"}]}, "info": {"Duration"}}`. Times are seconds of a clock on which the whole
recording takes `duration`: 20 s, or for some files 10 s. One published file is empty: its recording has no events.
"""

import json
import math
from pathlib import Path
from typing import Any

from cross4d_cache.datasets.hoi4d.labels import EVENT_NAMES
from cross4d_cache.datasets.looking import look_at
from cross4d_cache.errors import DatasetError
from cross4d_cache.types import UNLABELLED

LARGEST_FILE = 2**20
"""Bytes; a real one has a few thousand."""
DURATIONS = (10.0, 20.0)
"""Clocks of recordings whose file does not say; the shorter one if no event ends after 12 s."""
_HINT = "fetch the file again, or read without it: `dataset.options` labels=false"
_CLASSES = {"".join(filter(str.isalpha, name)): number for number, name in enumerate(EVENT_NAMES)}
"""The files write `Reachout`, `turn&on&the&switch`: only letters count."""


def read_events(path: Path, num_frames: int) -> list[int]:
    """The action of every frame; `UNLABELLED` outside all events and in events of unknown names.

    Raises:
        DatasetError: the file is not one of the two spellings.
    """
    events, duration = _read(path)
    actions = [UNLABELLED] * num_frames
    for name, start, end in events:
        first, last = (min(max(time / duration, 0), 1) * num_frames for time in (start, end))
        for number in range(math.ceil(first), math.ceil(last)):
            actions[number] = _class(name)
    return actions


def unknown_events(path: Path) -> set[str]:
    """The names of events that no class is known for.

    Raises:
        DatasetError: the file is not one of the two spellings.
    """
    return {name for name, *_ in _read(path)[0] if _class(name) == UNLABELLED}


def _class(name: str) -> int:
    return _CLASSES.get("".join(filter(str.isalpha, name.lower())), UNLABELLED)


def _read(path: Path) -> tuple[list[tuple[str, float, float]], float]:
    if (size := look_at(path, path.stat, _HINT).st_size) > LARGEST_FILE:
        raise DatasetError(f"{path}: {size} bytes", expected=f"at most {LARGEST_FILE}", hint=_HINT)
    data = look_at(path, path.read_bytes, _HINT)
    try:
        return _events(json.loads(data)) if data else ([], DURATIONS[1])
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}: no JSON from character {error.pos} on ({error.msg})", hint=_HINT) from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise DatasetError(f"{path}: {type(error).__name__}: {error}", expected="a list of events with their times", hint=_HINT) from None


def _events(record: Any) -> tuple[list[tuple[str, float, float]], float]:
    """Name, start and end of each event in order, and the duration of the recording, all on the clock of the file."""
    if "events" in record:
        events = [(str(event["event"]), _seconds(event["startTime"]), _seconds(event["endTime"])) for event in record["events"]]
    else:
        marks = record["markResult"]["marks"]
        events = [(str(mark["event"]), _seconds(mark["hdTimeStart"]), _seconds(mark["hdTimeEnd"])) for mark in marks]
    info = record.get("info") or {}
    told = info.get("duration") or info.get("Duration")
    if not told:
        return events, DURATIONS[0] if max((end for *_, end in events), default=20.0) < 12 else DURATIONS[1]
    duration = _seconds(told)
    if duration < 1:
        raise ValueError(f"a duration of {duration} s")
    return events, duration


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError(f"a time of {seconds}")
    return seconds
