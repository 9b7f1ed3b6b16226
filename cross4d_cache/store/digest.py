"""Hashes of files, and the file list that a part carries so that every byte of it can be accounted for."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from cross4d_cache.patience import patiently
from cross4d_cache.record import Record
from cross4d_cache.types import Count

FILE_LIST = "files.json"
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class FileRecord(Record):
    """Size in bytes and sha256 of one file."""

    bytes: Count
    sha256: Sha256


def sha256_bytes(data: bytes) -> str:
    """Hex sha256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read in blocks."""

    def read() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return patiently(read)


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def record_of(pieces: Iterable[bytes]) -> FileRecord:
    """Size and hash of a file that is made of some pieces."""
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return FileRecord(bytes=size, sha256=digest.hexdigest())
