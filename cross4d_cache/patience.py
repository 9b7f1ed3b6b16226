"""Errors of a file system that pass: on shared ones a file may be out of reach for a moment, and is there a second later.

"Could not look" is never "is not there" and never "is wrong": what cannot be read stays as it is, and the user is told so.
"""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

ATTEMPTS = 6
"""How often something is tried, with 1.5 seconds of pauses in all."""
FIRST_WAIT = 0.05
"""Seconds before the second attempt; each later one waits twice as long."""
ABSENT = (errno.ENOENT, errno.ENOTDIR)
WRONG = (errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)
"""Errors that say what is there instead of a file: a folder, a link, a name that no disk holds, a socket."""
REFUSED = (errno.EACCES, errno.EPERM)
FINAL = (*ABSENT, *WRONG, *REFUSED)
"""Errors that are an answer: to ask again is of no use."""

Found = TypeVar("Found")


def patiently(look: Callable[[], Found]) -> Found:
    """What `look` finds, after as many attempts as it takes.

    Raises:
        OSError: an answer, or the error of the last attempt.
    """
    wait = FIRST_WAIT
    for _ in range(ATTEMPTS - 1):
        try:
            return look()
        except OSError as error:
            if error.errno in FINAL:
                raise
        time.sleep(wait)
        wait *= 2
    return look()


def is_there(path: Path) -> bool:
    """Whether there is a file or a folder.

    Raises:
        OSError: that could not be seen.
    """
    try:
        patiently(lambda: os.stat(path))
    except OSError as error:
        if error.errno in ABSENT:
            return False
        raise
    return True


def advice(error: OSError) -> str:
    """What the user may do about a file that could not be read."""
    where = "permissions of the file and of the folders above it" if error.errno in REFUSED else "disk or the mounted share"
    return f"look at the {where}, then run the same again; nothing was changed"


def hint_for(error: Exception, otherwise: str) -> str:
    """What the user may do about what was not read; `otherwise` where the error says that it is missing, or something else."""
    if not isinstance(error, OSError) or error.errno in (None, *ABSENT, *WRONG):
        return otherwise
    return advice(error)
