"""A file system that gives errors: for a moment, as shared ones do, or for good."""

import builtins
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

When = Callable[[str, str], bool]
"""Whether a call (its name, and the path it looks at) fails."""


@contextmanager
def failing(number: int, when: When) -> Iterator[Counter[tuple[str, str]]]:
    """Calls that look at files or read them fail with error `number`; gives how often each did, by call and path."""
    failed = Counter[tuple[str, str]]()

    def failing_call(module: Any, name: str) -> Any:
        real = getattr(module, name)

        def call(target: Any, *arguments: Any, **options: Any) -> Any:
            mode = options.get("mode", arguments[0] if arguments and name == "open" else "r")
            reads = mode & os.O_ACCMODE == os.O_RDONLY if isinstance(mode, int) else "r" in str(mode)
            path = _path(target)
            if reads and path is not None and when(name, path):
                failed[name, path] += 1
                raise OSError(number, os.strerror(number), path)
            return real(target, *arguments, **options)

        return mock.patch.object(module, name, call)

    calls = [(os, "stat"), (os, "lstat"), (os, "open"), (os, "pread"), (os, "listdir"), (os, "scandir"), (io, "open"), (builtins, "open")]
    patches = [failing_call(module, name) for module, name in calls]
    for patch in patches:
        patch.start()
    try:
        yield failed
    finally:
        for patch in patches:
            patch.stop()


def _path(target: Any) -> str | None:
    try:
        return os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.fspath(target)
    except (OSError, TypeError):
        return None


def below(folder: Path, call: str, times: int) -> When:
    """A call on each file below a folder fails the first few times."""
    left = Counter({str(path): times for path in folder.rglob("*") if path.is_file()})

    def when(name: str, path: str) -> bool:
        if name != call or not left[path]:
            return False
        left[path] -= 1
        return True

    return when
