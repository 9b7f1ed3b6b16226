"""Checking every byte of a store against the hashes that were taken when it was written."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cross4d_cache.durable import is_partial
from cross4d_cache.errors import CacheCorruptError, CacheUnreadableError
from cross4d_cache.store.digest import canonical_json, sha256_bytes
from cross4d_cache.store.index import INDEX_FILE, PROJECTION, PROJECTION_FILES, read_index
from cross4d_cache.store.manifest import METADATA_FILE, PartRecord
from cross4d_cache.store.part import check_ids
from cross4d_cache.store.part_reader import GROUP_FILE, MOST_LIST_BYTES, PARTS, PARTS_GROUP, Part, PartFiles
from cross4d_cache.store.reader import Cache, open_cache
from cross4d_cache.store.storage import Storage, StoredFile
from cross4d_cache.store.storage.folder import FolderSource
from cross4d_cache.store.writer import CacheWriter
from cross4d_cache.types import SequenceInfo
from cross4d_cache.work import Stage, Step, Work, steps

Table = tuple[SequenceInfo, ...]


@dataclass(frozen=True, kw_only=True)
class PartCheck:
    """What was found in one part: how many bytes it has, what is wrong, one line a file, and what could not be read, of which nothing is
    known. `strays` are files that do not belong to the store, by their names in it: file managers leave such, and they mean nothing.
    """

    name: str
    num_bytes: int = 0
    problems: tuple[str, ...] = ()
    unread: tuple[CacheUnreadableError, ...] = ()
    strays: tuple[str, ...] = ()


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
    futures = [threads.submit(_check_part, fresh, record, present) for record in cache.manifest.parts]
    try:
        for future in futures:
            check, infos = future.result()
            tables.append(infos)
            yield check
    finally:
        fresh.storage.source.end(futures)
        threads.shutdown()
    yield PartCheck(name=METADATA_FILE, problems=_check_plan(fresh, tables), strays=_outside_parts(fresh, present))
    yield _check(GROUP_FILE, lambda: _check_group(fresh))
    yield _check(INDEX_FILE, lambda: _check_index(fresh, tables))
    yield _check(PROJECTION, lambda: _check_projection(fresh))


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What `verify` found in a store."""

    cache: Cache
    checks: tuple[PartCheck, ...]

    @property
    def problems(self) -> list[str]:
        """What is damaged, one line a file."""
        return [problem for check in self.checks for problem in check.problems]

    @property
    def unread(self) -> list[CacheUnreadableError]:
        """What could not be read, of which nothing is known."""
        return [error for check in self.checks for error in check.unread]

    @property
    def damaged(self) -> list[str]:
        """Names of the parts that are."""
        return [check.name for check in self.checks if check.problems]

    @property
    def strays(self) -> list[str]:
        """Files that do not belong to the store."""
        return [stray for check in self.checks for stray in check.strays]

    @property
    def intact(self) -> bool:
        """Whether everything was read, and is as it was written."""
        return not self.problems and not self.unread

    def as_record(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "store": self.cache.storage.place,
            "intact": self.intact,
            "parts": len(self.cache.manifest.parts),
            "bytes": sum(part.bytes for part in self.cache.manifest.parts),
            "damaged": self.damaged,
            "problems": self.problems,
            "unread": [error.found for error in self.unread],
            "strays": self.strays,
        }

    def refuse(self) -> None:
        """End with an error where there is damage, or where something could not be read.

        Raises:
            CacheCorruptError: files are damaged.
            CacheUnreadableError: none is known to be, but some could not be read.
        """
        place, problems, unread = self.cache.storage.place, self.problems, [error.found for error in self.unread]
        silent = f"{place}: files that could not be read ({len(unread)}):"
        if problems:
            whole = isinstance(self.cache.storage.source, FolderSource)
            fixes = "run the command that made it again (build, merge, subset, pull): it makes just these anew"
            raise CacheCorruptError(
                f"{place}: damaged files ({len(problems)}), of {', '.join(self.damaged)}:",
                details=(*problems, *((silent, *unread) if unread else ())),
                hint=fixes if whole else "it cannot be fixed in place: copy or pack it again from a whole one",
            )
        if unread:
            expected = "to read every file; whether these are damaged is not known"
            raise CacheUnreadableError(silent, details=unread, expected=expected, hint=self.unread[0].hint)


def mark_damaged(writer: CacheWriter) -> Iterator[int]:
    """Hash all of a finished store and mark what is damaged, so that it is written again; yields bytes.

    Raises:
        CacheCorruptError: what is damaged is what the rest is checked against.
        CacheUnreachableError: a file cannot be read now, so nobody knows whether it is damaged.
    """
    done = 0
    for check in verify(open_cache(writer.path)):
        if check.unread:
            raise check.unread[0]
        if check.problems and check.name == METADATA_FILE:
            raise CacheCorruptError(check.problems[0], hint=f"delete {writer.path} and make it anew")
        if check.problems:
            writer.renew(check.name)
        done += check.num_bytes
        yield done


def check_finished(writer: CacheWriter) -> Work[None]:
    """Of a store that is finished, mark what is damaged, so that the run that follows makes it again.

    Raises:
        CacheError: as `mark_damaged`.
    """
    if writer.complete:
        yield from steps(Stage(name="verify", unit="B", total=sum(part.bytes for part in writer.manifest.parts)), mark_damaged(writer))


def verify_store(place: Path | str) -> Work[Verification]:
    """Compare every byte of a finished store with the hashes taken when it was written.

    Raises:
        CacheError: there is no finished store there, or it cannot be reached.
    """
    cache, checks = open_cache(place), list[PartCheck]()
    stage = Stage(name="verify", unit="B", total=sum(part.bytes for part in cache.manifest.parts))
    for check in verify(cache):
        checks.append(check)
        damaged = sum(bool(found.problems) for found in checks)
        yield Step(stage=stage, done=sum(found.num_bytes for found in checks), note=f"{damaged} damaged" if damaged else "")
    return Verification(cache=cache, checks=tuple(checks))


def _check(name: str, look: Callable[[], Iterable[CacheCorruptError]]) -> PartCheck:
    """What one look at something that belongs to no part finds."""
    try:
        return PartCheck(name=name, problems=tuple(error.found for error in look()))
    except CacheCorruptError as error:
        return PartCheck(name=name, problems=(error.found,))
    except CacheUnreadableError as error:
        return PartCheck(name=name, unread=(error,))


def _check_plan(cache: Cache, tables: Sequence[Table | None]) -> tuple[str, ...]:
    if any(infos is None for infos in tables):  # a part that is damaged has been named
        return ()
    place = cache.storage.source.path(METADATA_FILE)
    try:
        check_ids([info for infos in tables for info in infos or ()])
    except ValueError as error:
        return (f"{place}: {error}",)
    ids = [[info.id for info in infos or ()] for infos in tables]
    if sha256_bytes(canonical_json(ids)) == cache.manifest.plan.sha256:
        return ()
    return (f"{place}: the manifest's plan is of other sequences",)


def _outside_parts(cache: Cache, present: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Files that are neither in a part of the store nor its own. What is being written aside is left out."""
    own = {METADATA_FILE, GROUP_FILE, INDEX_FILE, *PROJECTION_FILES}
    parts = {f"{PARTS}/{record.name}" for record in cache.manifest.parts}
    found = (name for folder, names in present.items() if folder not in parts for name in names)
    return tuple(name for name in found if name not in own and not is_partial(name.split("/")[0]))


def _check_group(cache: Cache) -> Iterator[CacheCorruptError]:
    try:
        intact = cache.storage.source.whole(GROUP_FILE, MOST_LIST_BYTES) == PARTS_GROUP
    except FileNotFoundError:  # release 0.1 did not write it
        return
    except ValueError as error:
        yield cache.storage.corrupt(GROUP_FILE, str(error))
        return
    if not intact:
        yield cache.storage.corrupt(GROUP_FILE, "its bytes differ from the ones that were written")


def _check_index(cache: Cache, tables: Sequence[Table | None]) -> Iterator[CacheCorruptError]:
    index, first = read_index(cache.storage, cache.manifest), 0
    for record, infos in zip(cache.manifest.parts, tables, strict=True):
        listed = index.sequences[first : first + record.num_sequences] if index else None
        if None not in (listed, infos) and listed != infos:
            yield cache.storage.corrupt(INDEX_FILE, f"it contradicts part {record.name}")
            return
        first += record.num_sequences


def _check_projection(cache: Cache) -> Iterator[CacheCorruptError]:
    try:
        index = read_index(cache.storage, cache.manifest)
    except CacheCorruptError:  # told as the index's own
        index = None
    damaged = [error for file in (index.files if index else ()) if (error := _difference(cache.storage, file))]
    yield from damaged
    if not damaged:
        cache.projection()


def _check_part(cache: Cache, record: PartRecord, present: Mapping[str, Sequence[str]]) -> tuple[PartCheck, Table | None]:
    """What was found, and the part's table of sequences if it is intact."""
    storage, infos = cache.storage, None
    problems, unread = list[str](), list[CacheUnreadableError]()
    try:
        part = PartFiles(storage, record)
    except CacheCorruptError as error:
        return PartCheck(name=record.name, problems=(error.found,)), None
    except CacheUnreadableError as error:
        return PartCheck(name=record.name, unread=(error,)), None
    listed = {file.name for file in (*part.files.values(), part.listing)}
    for file in part.files.values():
        try:
            if difference := _difference(storage, file):
                problems.append(difference.found)
        except CacheUnreadableError as error:
            unread.append(error)
    if not problems and not unread:
        try:
            infos = Part(storage, record, cache.manifest).infos
        except CacheCorruptError as error:
            problems.append(error.found)
    strays = tuple(name for name in present.get(part.folder, ()) if name not in listed)
    check = PartCheck(name=record.name, num_bytes=record.bytes, problems=tuple(problems), unread=tuple(unread), strays=strays)
    return check, infos


def _difference(storage: Storage, file: StoredFile) -> CacheCorruptError | None:
    """How a file differs from the one that was written."""
    try:
        for _ in storage.stream(file):
            pass
    except CacheCorruptError as error:
        return error
    return None
