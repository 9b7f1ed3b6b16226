"""Stores that an attacker made: every hash fits, the contents are hostile."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cross4d_cache.store.digest import canonical_json, record_of, sha256_bytes


def edit_manifest(store: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest, with a checksum that fits; the index no longer belongs to it."""
    group = json.loads((store / "zarr.json").read_text())
    record = group["attributes"]["cross4d"]
    change(record)
    record.pop("checksum", None)
    record["checksum"] = sha256_bytes(json.dumps(record, sort_keys=True, separators=(",", ":")).encode())
    (store / "zarr.json").write_text(json.dumps(group))


def forge_part(store: Path, number: int = 0, listing: dict[str, Any] | None = None, **record: object) -> None:
    """List the files of a part as they are now, or as `listing` says, and change its record in the manifest."""
    folder = store / "parts" / f"{number:05d}"
    if listing is None:
        names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != "files.json")
        listing = {name: record_of([(folder / name).read_bytes()]).model_dump() for name in names}
    data = canonical_json(listing)
    (folder / "files.json").write_bytes(data)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    edit_manifest(store, lambda manifest: manifest["parts"][number].update({"sha256": sha256_bytes(data), "bytes": size, **record}))


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
