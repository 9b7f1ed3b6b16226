"""What an exported student is: three files in a folder, or in a zip of it. Of a zip two are read, and no name in it becomes a path."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cross4d_cache.errors import CheckpointError
from cross4d_cache.patience import hint_for, patiently
from cross4d_cache.record import NewerRecordError, RecordError
from cross4d_cache.store.digest import Sha256
from cross4d_cache.store.storage.source import BLOCK
from cross4d_train.checkpoint import CheckpointRecord
from cross4d_train.downloads import keep, kept

WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.json", "README.md"
FILES = (CARD_FILE, CONFIG_FILE, WEIGHTS_FILE)
"""All that an exported folder has."""
ZIP_BEGINS = b"PK\x03\x04"
MOST_CONFIG_BYTES = 2**22
MOST_UNPACKED = 64
"""How many times its packed size the file of weights may have; weights hardly pack at all."""


class StudentConfig(CheckpointRecord):
    """`config.json`: the record of the checkpoint, and the hash of `model.safetensors`, which has the same record."""

    sha256: Sha256


def read_config(path: Path) -> StudentConfig:
    """The `config.json` of a folder.

    Raises:
        CheckpointError: it is missing or cannot be read, is too large, or is not that of a student.
    """
    with reading(str(path)):
        return _parse(patiently(lambda: _begin(path)), str(path))


def _begin(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST_CONFIG_BYTES + 1)


def _parse(data: bytes, what: str) -> StudentConfig:
    try:
        if len(data) > MOST_CONFIG_BYTES:
            raise RecordError("it is larger than any")
        return StudentConfig.from_json(data)
    except NewerRecordError as error:
        raise CheckpointError(f"{what} was {error.found}", expected="settings that this release knows", hint="update cross4d") from None
    except RecordError as error:
        raise CheckpointError(
            f"{what} is not that of an exported student ({error})",
            expected=f"{CONFIG_FILE} as `cross4d-train export` writes it",
            hint="export or copy it again",
        ) from None


def unpack(file: io.BufferedIOBase, what: str, sha256: str | None) -> Path:
    """The weights of the zip `what` of an exported folder, kept on this machine; they have this hash or, without one, that of their
    `config.json`. Nothing else in the zip is read, and names in it are never paths.

    Raises:
        CheckpointError: it has no student, or more than one, is damaged, or its weights have another hash.
        OutputError, SettingsError: as `keep`.
    """
    with reading(what), zipfile.ZipFile(file) as archive:
        config, weights = _members(archive, what)
        expected = sha256
        if expected is None:
            with archive.open(config) as member:
                expected = _parse(member.read(MOST_CONFIG_BYTES + 1), f"{config.filename} in {what}").sha256
        here = kept(expected)
        if here is not None:
            return here
        with archive.open(weights) as member:
            return keep(blocks(member.read, what), f"{weights.filename} in {what}", expected)


def _members(archive: zipfile.ZipFile, what: str) -> tuple[zipfile.ZipInfo, zipfile.ZipInfo]:
    """The members that count, at the top of a zip or in its one folder with a student."""
    members = {info.filename: info for info in archive.infolist()}
    folders = [name.removesuffix(CONFIG_FILE) for name in members if name == CONFIG_FILE or name.endswith(f"/{CONFIG_FILE}")]
    students = [folder for folder in folders if f"{folder}{WEIGHTS_FILE}" in members]
    if len(students) != 1:
        raise CheckpointError(
            f"{what} is a zip with {len(students) or 'no'} students in it",
            expected=f"one folder with {CONFIG_FILE} and {WEIGHTS_FILE}, as `cross4d-train export` writes them",
            hint="zip the exported folder",
        )
    config, weights = (members[f"{students[0]}{name}"] for name in (CONFIG_FILE, WEIGHTS_FILE))
    for info in (config, weights):
        if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{info.filename} is encrypted, or packed in an unusual way")
        if info.file_size > MOST_UNPACKED * max(info.compress_size, 1):
            raise ValueError(f"{info.filename} would unpack to {info.file_size} bytes")
    return config, weights


def blocks(read: Callable[[int], bytes], what: str) -> Iterator[bytes]:
    """What a file gives until it ends, a block at a time.

    Raises:
        CheckpointError: it cannot be read.
    """
    with reading(what):
        while block := read(BLOCK):
            yield block


@contextmanager
def reading(what: str) -> Iterator[None]:
    """What the system, a server or a zip refuses is told as an error of the place.

    Raises:
        CheckpointError: it does.
    """
    try:
        yield
    except (OSError, EOFError, ValueError, NotImplementedError, struct.error, zipfile.BadZipFile, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise CheckpointError(f"{what} cannot be read: {reason}", expected="a whole file", hint=hint_for(error, "copy it again")) from None
