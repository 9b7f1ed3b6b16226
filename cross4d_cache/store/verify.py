"""Checking every byte of a store against the hashes that were taken when it was written."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cross4d_cache.errors import CacheCorruptError
from cross4d_cache.store.digest import canonical_json, sha256_bytes
from cross4d_cache.store.index import INDEX_FILE, PROJECTION, StoreIndex, read_index
from cross4d_cache.store.manifest import METADATA_FILE, PartRecord
from cross4d_cache.store.part_reader import GROUP_FILE, MOST_LIST_BYTES, PARTS_GROUP, Part, PartFiles
from cross4d_cache.store.reader import Cache, open_cache
from cross4d_cache.store.storage import Storage, StoredFile
from cross4d_cache.store.writer import CacheWriter
from cross4d_cache.types import SequenceInfo

Table = tuple[SequenceInfo, ...]


@dataclass(frozen=True, kw_only=True)
class PartCheck:
    """What was found in one part: how many bytes were read, and what is wrong, one line a file."""

    name: str
    num_bytes: int
    problems: tuple[str, ...]


def verify(cache: Cache) -> Iterator[PartCheck]:
    """Hash every file of every part and compare, several parts at a time; then the manifest's plan, the index and the projection matrix,
    reported under their own names. Of a store on another machine everything is loaded, not taken from what is kept on this one.

    Raises:
        CacheUnreachableError: the server does not answer.
    """
    fresh = Cache(Storage(cache.storage.source), cache.manifest)
    present = defaultdict[str, list[str]](list)
    for name in fresh.storage.source.names() or ():
        present["/".join(name.split("/")[:2])].append(name)
    threads = ThreadPoolExecutor(os.cpu_count())
    tables = list[Table | None]()
    try:
        for check, infos in threads.map(lambda record: _check_part(fresh, record, present), cache.manifest.parts):
            tables.append(infos)
            yield check
    except BaseException:
        fresh.storage.source.stop()
        raise
    finally:
        threads.shutdown(cancel_futures=True)
    yield PartCheck(name=METADATA_FILE, num_bytes=0, problems=_check_plan(fresh, tables))
    yield PartCheck(name=GROUP_FILE, num_bytes=0, problems=_check_group(fresh))
    index, problems = _check_index(fresh, tables)
    yield PartCheck(name=INDEX_FILE, num_bytes=0, problems=problems)
    yield PartCheck(name=PROJECTION, num_bytes=0, problems=_check_projection(fresh, index))


def discard_damaged(writer: CacheWriter) -> Iterator[int]:
    """Hash all of a finished store and take out what is damaged, so that it is missing and is written again; yields bytes.

    Raises:
        CacheCorruptError: what is damaged is what the rest is checked against.
        OutputError: the store cannot be written.
    """
    done = 0
    for check in verify(open_cache(writer.path)):
        if check.problems and check.name == METADATA_FILE:
            raise CacheCorruptError(check.problems[0], hint=f"delete {writer.path} and make it anew")
        if check.problems:
            writer.discard(check.name)
        done += check.num_bytes
        yield done


def _check_plan(cache: Cache, tables: Sequence[Table | None]) -> tuple[str, ...]:
    if any(infos is None for infos in tables):  # a part that is damaged has been named
        return ()
    ids = [[info.id for info in infos or ()] for infos in tables]
    if sha256_bytes(canonical_json(ids)) == cache.manifest.plan.sha256:
        return ()
    return (f"{cache.storage.source.path(METADATA_FILE)}: the manifest's plan is of other sequences",)


def _check_group(cache: Cache) -> tuple[str, ...]:
    try:
        intact = cache.storage.source.whole(GROUP_FILE, MOST_LIST_BYTES) == PARTS_GROUP
    except FileNotFoundError:  # release 0.1 did not write it
        return ()
    except (OSError, ValueError) as error:
        return (f"{cache.storage.source.path(GROUP_FILE)}: {error}",)
    return () if intact else (cache.storage.corrupt(GROUP_FILE, "its bytes differ from the ones that were written").found,)


def _check_index(cache: Cache, tables: Sequence[Table | None]) -> tuple[StoreIndex | None, tuple[str, ...]]:
    try:
        index = read_index(cache.storage, cache.manifest)
    except CacheCorruptError as error:
        return None, (error.found,)
    first = 0
    for record, infos in zip(cache.manifest.parts, tables, strict=True):
        listed = index.sequences[first : first + record.num_sequences] if index else None
        if None not in (listed, infos) and listed != infos:
            return index, (cache.storage.corrupt(INDEX_FILE, f"it contradicts part {record.name}").found,)
        first += record.num_sequences
    return index, ()


def _check_projection(cache: Cache, index: StoreIndex | None) -> tuple[str, ...]:
    problems = [problem for file in (index.files if index else ()) if (problem := _check_file(cache.storage, file))]
    if not problems:
        try:
            cache.projection()
        except CacheCorruptError as error:
            problems.append(error.found)
    return tuple(problems)


def _check_part(cache: Cache, record: PartRecord, present: Mapping[str, Sequence[str]]) -> tuple[PartCheck, Table | None]:
    """What was found, and the part's table of sequences if it is intact."""
    storage, manifest, infos = cache.storage, cache.manifest, None
    try:
        part = PartFiles(storage, record)
    except CacheCorruptError as error:
        return PartCheck(name=record.name, num_bytes=0, problems=(error.found,)), None
    listed = {file.name for file in (*part.files.values(), part.listing)}
    strays = [name for name in present.get(part.folder, ()) if name not in listed]
    problems = [f"{storage.source.path(name)}: the file does not belong to the store" for name in strays]
    problems += [problem for file in part.files.values() if (problem := _check_file(storage, file))]
    if not problems:
        try:
            infos = Part(storage, record, render=manifest.render, channels=manifest.projection.channels).infos
        except CacheCorruptError as error:
            problems.append(error.found)
    return PartCheck(name=record.name, num_bytes=record.bytes, problems=tuple(problems)), infos


def _check_file(storage: Storage, file: StoredFile) -> str | None:
    try:
        for _ in storage.stream(file):
            pass
    except CacheCorruptError as error:
        return error.found
    return None
