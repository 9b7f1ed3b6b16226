"""Where a trained student lies: on this machine, behind an address, on the hub. Every way to name one ends in a local checkpoint file."""

import io
import re
import stat
from pathlib import Path

from cross4d_cache.errors import CacheUnreachableError, CheckpointError, SettingsError
from cross4d_cache.patience import ABSENT, WRONG, is_there, patiently
from cross4d_cache.store.digest import sha256_file
from cross4d_cache.store.storage import is_remote
from cross4d_cache.store.storage.web_file import open_web_file
from cross4d_train import hub
from cross4d_train.checkpoint import CHECKPOINT_FILE
from cross4d_train.downloads import keep, kept, other_bytes
from cross4d_train.exported import CONFIG_FILE, WEIGHTS_FILE, ZIP_BEGINS, blocks, read_config, reading, unpack

STUDENTS = Path(__file__).parent / "students"
"""The students that come with the package: a folder each, as exported."""
PLACES = (
    "the name of a student of this package, or "
    "the folder of a run, a checkpoint file, a folder that `cross4d-train export` wrote or a zip of it, such a file at http:// or "
    "https://, or a hub id OWNER/NAME or OWNER/NAME@REVISION"
)


def checkpoint_at(place: Path | str, *, sha256: str | None = None) -> Path:
    """The checkpoint file of a student, on this machine: what is elsewhere is loaded, what is in a zip is unpacked.

    `place` is the name of a student of this package (`bodies`), the folder of a run, a checkpoint file, an exported folder, a zip of one,
    such a file at `http://` or `https://`, or a hub id `OWNER/NAME` or `OWNER/NAME@REVISION`. What exists here under a name goes before a
    student of this package, and that before the hub. The file has the hash `sha256` if one is given, else the one that the `config.json`
    of an export says. It is compared before anything in the file is read.

    Raises:
        CheckpointError: there is none, it cannot be read, or it has another hash.
        CacheUnreachableError: a server does not answer.
        SettingsError: an address of another kind, or a hash that is none.
        OutputError: what is loaded cannot be kept.
    """
    if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", sha256):
        raise SettingsError(f"sha256 = {sha256[:80]!r}", expected="64 hexadecimal digits, in small letters", hint="copy it again")
    if is_remote(place):
        return _from_web(str(place), sha256)
    path = Path(place)
    kind = _kind(path)
    if kind == stat.S_IFDIR:
        return _in_folder(path, sha256)
    if kind == stat.S_IFREG:
        return _in_file(path, sha256)
    if kind is None and str(place) in packaged():
        return _in_folder(STUDENTS / str(place), sha256)
    if kind is None and hub.is_hub_id(str(place)):
        return _exported(hub.fetch(str(place), (CONFIG_FILE, WEIGHTS_FILE)), sha256)
    ours = ", ".join(packaged()) or "there are none"
    raise CheckpointError(
        f"there is no student at {place}: no file or folder here, no address, no hub id, and none of this package ({ours})",
        expected=PLACES,
        hint="check the name",
    )


def packaged() -> list[str]:
    """The names of the students that come with the package."""
    return sorted(path.parent.name for path in STUDENTS.glob(f"*/{WEIGHTS_FILE}"))


def _kind(path: Path) -> int | None:
    """The kind of file that lies at a place, None if there is none."""
    with reading(str(path)):
        try:
            return stat.S_IFMT(patiently(path.stat).st_mode)
        except OSError as error:
            if error.errno in (*ABSENT, *WRONG):
                return None
            raise


def _in_folder(folder: Path, sha256: str | None) -> Path:
    """The checkpoint of the folder of a run, or of an exported one."""
    with reading(str(folder)):
        if is_there(folder / CHECKPOINT_FILE):
            return _checked(folder / CHECKPOINT_FILE, sha256)
    return _exported(folder, sha256)


def _exported(folder: Path, sha256: str | None) -> Path:
    with reading(str(folder)):
        if is_there(folder / WEIGHTS_FILE):
            return _checked(folder / WEIGHTS_FILE, sha256 or read_config(folder / CONFIG_FILE).sha256)
    raise CheckpointError(
        f"{folder} has no student in it: neither {CHECKPOINT_FILE} nor {WEIGHTS_FILE} is there",
        expected=PLACES,
        hint="check the name; a run has a checkpoint after its first epoch",
    )


def _in_file(path: Path, sha256: str | None) -> Path:
    with reading(str(path)), path.open("rb") as file:
        if file.read(len(ZIP_BEGINS)) == ZIP_BEGINS:
            return unpack(file, str(path), sha256)
    return _checked(path, sha256)


def _checked(path: Path, sha256: str | None) -> Path:
    """The file, after its hash was compared if there is one to compare with."""
    if sha256 is not None and (found := sha256_file(path)) != sha256:
        raise other_bytes(str(path), found, sha256)
    return path


def _from_web(address: str, sha256: str | None) -> Path:
    """The checkpoint that a server has, as a file or in a zip; of a zip whose weights are here already only the `config.json` is loaded."""
    here = None if sha256 is None else kept(sha256)
    if here is not None:
        return here
    try:
        with reading(address), _open(address) as file:
            begin = file.read(9)
            file.seek(0)
            if begin.startswith(ZIP_BEGINS):
                return unpack(file, address, sha256)
            if begin[8:] == b"{":  # a safetensors file: the length of its header, and the header, which is JSON
                return keep(blocks(file.read, address), address, sha256)
    except CacheUnreachableError as error:
        expected = error.expected and PLACES  # of a web page in place of data, where a store was expected
        raise type(error)(error.found, expected=expected, hint=error.hint) from None
    raise CheckpointError(f"what lies at {address} is neither a safetensors file nor a zip", expected=PLACES, hint="look at the address")


def _open(address: str) -> io.BufferedReader:
    try:
        return open_web_file(address, hint=f"pass {PLACES}")
    except FileNotFoundError as error:
        login = "; if it needs a login, put yours into ~/.netrc, or a token into CROSS4D_TOKEN" if "403" in str(error) else ""
        raise CheckpointError(
            f"there is nothing at {address}: {error.strerror}", expected=PLACES, hint=f"look at the address{login}"
        ) from None
