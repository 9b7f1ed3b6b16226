"""Where a recipe or a benchmark writes in the end: told at once if it cannot, not after an hour of work."""

import argparse
import os
from pathlib import Path

from cross4d_cache.errors import SettingsError
from cross4d_cache.local import local_path


def report_file(text: str) -> Path:
    """A file that can be written, as the type of an argument.

    Raises:
        ArgumentTypeError: it is an address or a folder, or its folder does not exist or cannot be written to.
    """
    try:
        path = local_path(text)
    except SettingsError as error:
        raise argparse.ArgumentTypeError(error.found) from None
    if path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write {path}: name a file in a folder that exists and can be written to")
    return path
