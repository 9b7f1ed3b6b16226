"""What a user says of sequences, in a CSV file, and of the classes of points, in `classes.txt`.

The CSV file's first line names its columns: `sequence`, and any of `action`, `subject`, `split`. Columns are separated by commas, or by
semicolons or tabs as spreadsheets write them in some countries. `classes.txt` has a line `NUMBER NAME` for each class.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cross4d_cache.datasets.folder.layout import natural
from cross4d_cache.datasets.looking import look_at
from cross4d_cache.errors import DatasetError
from cross4d_cache.join import composed
from cross4d_cache.types import UNLABELLED

COLUMNS = ("sequence", "action", "subject", "split")
SEPARATORS = ",;\t"
LARGEST_BYTES, LARGEST_CLASS = 1 << 26, (1 << 16) - 1
_NUMBER = re.compile("[0-9]{1,9}")


@dataclass(frozen=True)
class Row:
    """What is said of a sequence; empty where nothing is."""

    action: str = ""
    subject: str = ""
    split: str = ""


@dataclass(frozen=True)
class LabelTable:
    """The rows of a CSV file by sequence, as the file names it.

    Actions are numbered in the natural order of their names. Subjects keep their numbers if all of them are whole numbers, and are
    otherwise numbered in the natural order of their names.
    """

    rows: Mapping[str, Row] = field(default_factory=dict)

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the actions, in order."""
        return tuple(sorted({row.action for row in self.rows.values() if row.action}, key=natural))

    def action_numbers(self) -> dict[str, int]:
        """Numbers of the actions by name."""
        return {name: number for number, name in enumerate(self.action_names)} | {"": UNLABELLED}

    def subject_numbers(self) -> dict[str, int]:
        """Numbers of the subjects by name."""
        names = sorted({row.subject for row in self.rows.values() if row.subject}, key=natural)
        are_numbers = all(_NUMBER.fullmatch(name) for name in names)
        return {name: int(name) if are_numbers else number for number, name in enumerate(names)} | {"": UNLABELLED}


def read_labels(path: Path) -> LabelTable:
    """The table of a CSV file.

    Raises:
        DatasetError: the file is missing, or a line is damaged, naming it.
    """
    rows: dict[str, Row] = {}
    text = _text(path)
    header_line = next((line for line in text.splitlines() if line.strip(SEPARATORS + " ")), "")
    lines = csv.reader(text.splitlines(keepends=True), delimiter=max(SEPARATORS, key=header_line.count), strict=True)
    try:
        cells = _cells(lines)
        header = [name.lower() for name in next(cells, [])]
        if "sequence" not in header or len(set(header)) < len(header) or not set(header) <= set(COLUMNS):
            raise ValueError(f"its columns are {', '.join(header)[:200] or '(none)'}")
        for values in cells:
            if len(values) != len(header):
                raise ValueError(f"{len(values)} values for {len(header)} columns")
            row = dict(zip(header, values, strict=True))
            name, split = row.pop("sequence"), row.pop("split", "").lower()
            if not name or name in rows:
                raise ValueError(f"sequence {name[:80]!r} stands there twice" if name else "no sequence is named")
            if split not in ("", "train", "test"):
                raise ValueError(f"split {split[:80]!r}")
            rows[name] = Row(**{column: composed(value) for column, value in row.items()}, split=split)
    except (csv.Error, ValueError) as error:
        raise DatasetError(
            f"{path}, line {max(lines.line_num, 1)}: {error}",
            expected=f"columns {', '.join(COLUMNS)} (any but sequence may be missing); each sequence once; split train, test or empty",
            hint="correct the file",
        ) from None
    return LabelTable(rows)


def _cells(lines: Iterator[list[str]]) -> Iterator[list[str]]:
    """The lines that say something; spreadsheets end tables with lines of separators alone."""
    stripped = ([value.strip() for value in line] for line in lines)
    return (line for line in stripped if any(line))


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names of all classes up to the largest that has one; the others are called `class NUMBER`.

    Raises:
        DatasetError: a line is not a number and a name, or repeats one.
    """
    names: dict[int, str] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        first, name = [*line.split(maxsplit=1), ""][:2]
        name = name.strip()
        if not _NUMBER.fullmatch(first) or not name or int(first) > LARGEST_CLASS or int(first) in names or name in names.values():
            raise DatasetError(
                f"{path}, line {number}: {line[:80]!r}",
                expected=f"a line NUMBER NAME for each class, numbers up to {LARGEST_CLASS}, every number and name once",
                hint="correct the file",
            )
        names[int(first)] = name
    return tuple(names.get(number, f"class {number}") for number in range(max(names, default=-1) + 1))


def _text(path: Path) -> str:
    hint = "write it, or leave the option labels out"
    try:
        if (size := look_at(path, path.stat, hint).st_size) > LARGEST_BYTES:
            raise DatasetError(f"{path}: {size} bytes", expected=f"at most {LARGEST_BYTES}", hint="correct the file")
        return look_at(path, lambda: path.read_text(encoding="utf-8-sig"), hint)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text from byte {error.start} on", hint="save it as UTF-8") from None
