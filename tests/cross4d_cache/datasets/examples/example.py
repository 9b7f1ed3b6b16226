"""What the contract suite and the soak need of a format: a small folder of it, written by code that shares nothing with the reader."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Example:
    """One on-disk form of a dataset.

    `write` fills an empty folder with a few short sequences (some hundred kilobytes at most), the same bytes every time; the folder is what
    users pass as `--data`. `options` are those the reader is opened with. `splits` says whether the folder has sequences on both
    sides of every protocol.
    """

    name: str
    dataset: str
    write: Callable[[Path], None]
    options: Mapping[str, str] = field(default_factory=dict)
    splits: bool = True
