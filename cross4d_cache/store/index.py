"""One file about a finished store as a whole: the table of all sequences, so that opening it takes one read, not one of every part; and the
hashes of files that no part lists.

It is derived: a store without it is as good, and one that belongs to another list of parts counts for nothing.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from cross4d_cache.durable import write_durably
from cross4d_cache.patience import is_there
from cross4d_cache.store.digest import FileRecord, canonical_json, sha256_bytes, sha256_file
from cross4d_cache.store.manifest import METADATA_FILE, CacheManifest
from cross4d_cache.store.part import parse_sequences, sequence_columns
from cross4d_cache.store.storage import Storage, StoredFile
from cross4d_cache.types import SequenceInfo

INDEX_FILE = "index.json"
MOST_INDEX_BYTES = 2**28
PROJECTION = "projection"
PROJECTION_FILES = (f"{PROJECTION}/{METADATA_FILE}", f"{PROJECTION}/c/0/0")

_FILES: TypeAdapter[dict[str, FileRecord]] = TypeAdapter(dict[str, FileRecord])


@dataclass(frozen=True, kw_only=True)
class StoreIndex:
    """All sequences of a store, in order, and its files that belong to no part."""

    sequences: tuple[SequenceInfo, ...]
    files: tuple[StoredFile, ...]


def write_index(store: Path, manifest: CacheManifest, sequences: Iterable[SequenceInfo]) -> None:
    """Write the index of the store whose parts `manifest` lists."""
    files = {
        name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for name in PROJECTION_FILES if is_there(path := store / name)
    }
    record = {"manifest": manifest.checksum, "files": files, "sequences": sequence_columns(tuple(sequences))}
    write_durably(store / INDEX_FILE, canonical_json({**record, "checksum": sha256_bytes(canonical_json(record))}))


def read_index(storage: Storage, manifest: CacheManifest) -> StoreIndex | None:
    """The index, None if there is none that belongs to this manifest.

    Raises:
        CacheCorruptError: it is damaged, or contradicts the manifest.
        CacheUnreachableError: it cannot be read now.
    """
    try:
        data = storage.source.whole(INDEX_FILE, MOST_INDEX_BYTES)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise storage.corrupt(INDEX_FILE, str(error)) from None
    try:
        record = _checked(json.loads(data))
        if record["manifest"] != manifest.checksum:
            return None
        sequences = parse_sequences(record["sequences"])
        lengths = [sum(part.num_sequences for part in manifest.parts), sum(part.num_frames for part in manifest.parts)]
        if [len(sequences), sum(info.num_frames for info in sequences)] != lengths:
            raise ValueError("it contradicts the manifest")
        files = _FILES.validate_python(record["files"], extra="allow")
        if not set(files) <= set(PROJECTION_FILES):
            raise ValueError("it lists files that a store does not have")
    except (ValueError, RecursionError) as error:
        raise storage.corrupt(INDEX_FILE, f"the index cannot be read ({str(error).splitlines()[0][:200]})") from None
    return StoreIndex(sequences=sequences, files=tuple(StoredFile(name, file.bytes, file.sha256) for name, file in files.items()))


def _checked(record: object) -> dict[str, Any]:
    if not isinstance(record, dict) or not {"manifest", "files", "sequences", "checksum"} <= set(record):
        raise ValueError("no index of a store")
    if record.pop("checksum") != sha256_bytes(canonical_json(record)):
        raise ValueError("its checksum does not fit it")
    return record
