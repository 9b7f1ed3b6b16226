"""Parts that are taken over as they are, and parts of some of a part's sequences."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Shaped

from cross4d_cache.store import CacheManifest, PartContents, PlanRecord
from cross4d_cache.store.digest import FILE_LIST, FileRecord, canonical_json, record_of, sha256_bytes
from cross4d_cache.store.manifest import METADATA_FILE
from cross4d_cache.store.part import CHUNK_LIST, LAYOUT, write_array
from cross4d_cache.store.part_reader import Part, PartFiles
from cross4d_cache.store.storage.folder import FolderSource
from cross4d_cache.store.storage.source import Source
from cross4d_cache.types import SequenceInfo

MIXED_BATCHES = 0
"""`plan.batch_frames` of a store whose parts were made with batches of different sizes."""


def take_over(part: PartFiles, folder: Path, fingerprint: str, *, without: str | None = None) -> None:
    """The files of a part, checked, in a new folder of a store of `fingerprint`: hard links where the file system allows it, else copies.

    Those of the array `without` are left out, though the new folder's list of files still has them: `put_array` writes them anew.

    Raises:
        CacheCorruptError: a file differs from the one that was written.
        CacheUnreachableError: it cannot be read now.
        OSError: the folder cannot be written.
    """
    files = {name: file for name, file in part.files.items() if without is None or not name.startswith(f"{without}/")}
    for above in sorted({"", *(name[:end] for name in files for end, letter in enumerate(name) if letter == "/")}):
        (folder / above).mkdir()
    for name, file in [*files.items(), (FILE_LIST, part.listing)]:
        target = folder / name
        if _link(part.storage.source, file.name, target):
            for _ in part.storage.stream(file):
                pass
            continue
        with target.open("wb") as out:
            for block in part.storage.stream(file):
                out.write(block)
    stamp(folder, fingerprint)


def stamp(folder: Path, fingerprint: str) -> None:
    """Say in a part which settings it belongs to. Those of release 0.1 are said in other words, by another fingerprint.

    Raises:
        OSError: the folder cannot be written.
    """
    group = json.loads((folder / METADATA_FILE).read_bytes())
    attributes = group["attributes"]["cross4d_part"]
    if attributes["fingerprint"] == fingerprint:
        return
    attributes["fingerprint"] = fingerprint
    _list_again(folder, {METADATA_FILE: _replace(folder / METADATA_FILE, json.dumps(group, indent=2).encode())})


def put_array(folder: Path, name: str, values: Shaped[np.ndarray, "row ..."]) -> None:
    """Write an array of a part that was taken over without it, and say so in the part's lists.

    Raises:
        OSError: the folder cannot be written.
    """
    files, hashes = write_array(folder, name, values, LAYOUT[name].chunk_rows)
    if (folder / CHUNK_LIST).exists():  # release 0.1 did not write it
        chunks = json.loads((folder / CHUNK_LIST).read_bytes())
        files[CHUNK_LIST] = _replace(folder / CHUNK_LIST, canonical_json({**chunks, name: hashes}))
    _list_again(folder, files)


def _list_again(folder: Path, changed: Mapping[str, FileRecord]) -> None:
    """Size and hash of some files of a part, anew in its list of files."""
    files = json.loads((folder / FILE_LIST).read_bytes())
    files |= {name: record.model_dump() for name, record in changed.items()}
    _replace(folder / FILE_LIST, canonical_json(files))


def _replace(path: Path, data: bytes) -> FileRecord:
    path.unlink()  # it may be a link to the other store's file
    path.write_bytes(data)
    return record_of([data])


def _link(source: Source, name: str, target: Path) -> bool:
    if not isinstance(source, FolderSource):
        return False
    try:
        os.link(source.root / name, target, follow_symlinks=False)
    except OSError:  # another disk, or one without links
        target.unlink(missing_ok=True)
        return False
    return True


def cut(part: Part, chosen: Sequence[int]) -> PartContents:
    """Some of a part's sequences as a part of their own.

    Raises:
        CacheCorruptError: bytes that were read differ from the ones that were written.
        CacheUnreachableError: it cannot be read now.
    """
    frames = [(int(part.first_frames[index]), int(part.first_frames[index + 1])) for index in chosen]
    points = [(int(part.point_offsets[start]), int(part.point_offsets[stop])) for start, stop in frames]
    tubelets = [(int(part.frame_tubelet[start]), int(part.frame_tubelet[stop - 1]) + 1) for start, stop in frames]
    rows = [(int(part.feature_offsets[start]), int(part.feature_offsets[stop])) for start, stop in tubelets]
    cameras = [(int(part.first_cameras[index]), int(part.first_cameras[index + 1])) for index in chosen]
    ranges = {
        **dict.fromkeys(("points", "patch_slot", "part_labels", "surface_ids"), points),
        **dict.fromkeys(("features", "feature_patch"), rows),
        **dict.fromkeys(("intrinsics", "world_to_camera"), cameras),
        "boxes": [(index, index + 1) for index in chosen],
        "frame_features": tubelets,
        "frame_actions": frames,
    }
    arrays = {
        name: np.concatenate([part.rows(name, *span) for span in ranges[name]])
        for name in LAYOUT
        if name in ranges and (part.has(name) or not LAYOUT[name].optional)
    }
    lengths = [stop - start for start, stop in tubelets]
    frame_tubelet: list[Int64[np.ndarray, " frame"]] = [
        part.frame_tubelet[start:stop] - first + before
        for (start, stop), (first, _), before in zip(frames, tubelets, np.cumsum([0, *lengths[:-1]]), strict=True)
    ]
    return PartContents(
        sequences=tuple(part.infos[index] for index in chosen),
        point_offsets=_joined([part.point_offsets[start : stop + 1] for start, stop in frames]),
        feature_offsets=_joined([part.feature_offsets[start : stop + 1] for start, stop in tubelets]),
        frame_tubelet=np.concatenate(frame_tubelet),
        **arrays,
    )


def _joined(offsets: Sequence[Int64[np.ndarray, "_"]]) -> Int64[np.ndarray, " joined"]:
    return np.concatenate([[0], np.cumsum(np.concatenate([np.diff(item) for item in offsets]))]).astype(np.int64)


def planned(base: CacheManifest, parts: Sequence[Sequence[SequenceInfo]], *, dataset_fingerprint: str, batch_frames: int) -> CacheManifest:
    """The manifest of a store of these parts, before they are there; described as `base` is."""
    ids = [[info.id for info in part] for part in parts]
    plan = PlanRecord(
        batch_frames=batch_frames,
        num_parts=len(parts),
        num_sequences=sum(map(len, parts)),
        num_frames=sum(info.num_frames for part in parts for info in part),
        sha256=sha256_bytes(canonical_json(ids)),
        description=base.plan.description,
    )
    dataset = base.dataset.model_copy(update={"fingerprint": dataset_fingerprint})
    return base.model_copy(update={"complete": False, "parts": (), "plan": plan, "dataset": dataset})
