"""Folders whose files come in another order: file systems list them in any, and some change it when a file is copied."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock


@contextmanager
def folders_reversed() -> Iterator[None]:
    """Within, `os.listdir` and `os.scandir`, and what is made of them, give the contents of a folder from back to front."""
    listdir, scandir = os.listdir, os.scandir
    with (
        mock.patch.object(os, "listdir", lambda *path: listdir(*path)[::-1]),
        mock.patch.object(os, "scandir", lambda *path: _Entries(scandir(*path))),
    ):
        yield


class _Entries:
    """What `os.scandir` gives, from back to front."""

    def __init__(self, entries: Any) -> None:
        with entries:
            self._entries = reversed(list(entries))

    def __iter__(self) -> "_Entries":
        return self

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> "_Entries":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is open any more."""
