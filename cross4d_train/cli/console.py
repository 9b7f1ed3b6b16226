"""What the commands say, on stderr; results are on stdout."""

import json
import sys

from cross4d_cache.errors import printable
from cross4d_cache.record import Record, newer_note


def say(text: str) -> None:
    """One line for the user."""
    print(printable(text), file=sys.stderr)


def show_json(record: Record) -> None:
    """A result as one JSON object, with `\\u` in place of all that is not ASCII."""
    print(json.dumps(json.loads(record.model_dump_json())))


def warn_random_teacher(teacher: str) -> None:
    """Say loudly that targets came from an untrained teacher."""
    say(f"WARNING: the teacher {teacher} had random weights: its targets mean nothing, and results only show that things run")


def note_newer(record: Record, what: str) -> None:
    """Say which recorded fields of a newer release this one does not understand."""
    note = newer_note(record, what)
    if note is not None:
        say(note)
