"""A copy of a store from elsewhere, begun as often as it takes: checked, several files at a time, visible when it is whole."""

import errno
import fcntl
import hashlib
import shutil
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

from cross4d_cache.durable import make_flushers, partial_paths, sweep, sync_folder, sync_tree, write_durably
from cross4d_cache.errors import CacheCorruptError, CacheIncompleteError, CacheMismatchError, Cross4DError, OutputError
from cross4d_cache.store import Cache, CacheManifest, check_place, open_cache, verify
from cross4d_cache.store.index import INDEX_FILE, MOST_INDEX_BYTES, PROJECTION, PROJECTION_FILES, read_index
from cross4d_cache.store.manifest import METADATA_FILE, MOST_MANIFEST_BYTES, PartRecord, read_root
from cross4d_cache.store.part_reader import PARTS, PartFiles
from cross4d_cache.store.storage import Storage, StoredFile, open_storage
from cross4d_cache.store.storage.folder import FolderSource
from cross4d_cache.store.storage.source import CONNECTIONS
from cross4d_cache.store.writer import make_parts_group
from cross4d_cache.work import Stage, Work, steps

STAGING = ".pull.0000000000000000.partial"
"""Where files lie until their part is whole; the name is one that writers of stores leave alone, and sweep up in the end."""
LOCK = "lock"
INTERVAL = 0.2
"""Seconds between two records of progress."""


def pull(place: Path | str, out: Path, *, wait_minutes: float | None = None) -> Work[Cache]:
    """A checked copy of a store from elsewhere at `out`; an interrupted copy is resumed.

    Raises:
        CacheError, CacheMismatchError, OutputError: as `Pull`.
    """
    run = Pull(place, out, wait_minutes=wait_minutes)
    yield from steps(Stage(name="pull", unit="B", total=run.total), run.run())
    return open_cache(out)


class Pull:
    """A copy at `out` of the store at `place`. Of one that is there already, what is missing or damaged is copied again.

    A server that is away is waited for, `wait_minutes` long; None: as `CROSS4D_WAIT_MINUTES` says.

    Raises:
        CacheError: there is no finished store at `place`, or it cannot be reached.
        CacheMismatchError: `out` is another store.
        OutputError: `out` holds something else, or cannot be written.
    """

    def __init__(self, place: Path | str, out: Path, *, wait_minutes: float | None = None) -> None:
        # What is kept of remote stores on this machine is left alone: it would all be loaded twice, and push out what is used.
        self.storage, self.out = Storage(open_storage(place, wait_minutes=wait_minutes).source), out
        self._staging = out / STAGING
        self._data = read_root(self.storage)
        self.manifest = CacheManifest.parse(self._data, self.storage.place)
        if not self.manifest.complete:
            raise CacheIncompleteError(f"{place} is not finished", hint="finish it first, with the command that began it")
        check_place(out)
        self.done = 0
        """Bytes that are here and checked."""
        self._counting = threading.Lock()
        self._stopped = threading.Event()
        self._flushers = make_flushers()

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(part.bytes for part in self.manifest.parts)

    def run(self) -> Iterator[int]:
        """Copy; yields how many bytes are here.

        Raises:
            CacheCorruptError: the store is damaged, or its server gives other bytes than it should.
            CacheMismatchError: `out` is another store.
            CacheUnreachableError: the server does not answer.
            OutputError: the disk is full or not writable, or another process copies to the same place.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            self._staging.mkdir(exist_ok=True)
            with self._locked():
                yield from self._run()
        except OSError as error:
            raise OutputError(
                f"cannot write to {self.out}: {error.strerror or error}",
                hint="free some space or fix the permissions; the same command resumes there",
            ) from None

    def _run(self) -> Iterator[int]:
        self._begin()
        kept = set[str]()
        for check in verify(Cache(Storage(FolderSource(self.out)), self.manifest)):
            if check.unread:  # nobody knows whether it must be copied again
                raise check.unread[0]
            if not check.problems:
                kept.add(check.name)
                self.done += check.num_bytes
                yield self.done
        wanted = [record for record in self.manifest.parts if record.name not in kept]
        self._check_space(sum(record.bytes for record in wanted))
        copying: dict[Future[Any], str] = {}
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="pull") as threads:
            try:
                yield from self._copy_parts(wanted, threads, copying)
            finally:
                self._stopped.set()
                self.storage.source.end(copying)
        self._copy_projection()
        self._finish()
        yield self.total

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._staging / LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process, however that ends
            except BlockingIOError:
                raise OutputError(f"another process copies to {self.out}", hint="wait for it, or choose another place") from None
            except OSError:
                pass  # a file system without locks
            yield

    def _begin(self) -> None:
        """Say that the store is not finished, unless it is this one, perhaps damaged."""
        _ = Cache(self.storage, self.manifest).sequences  # refuses tables that cannot be, before anything is copied
        here = CacheManifest.read(self.out) if (self.out / METADATA_FILE).exists() else None
        if here is not None:
            differences = here.differences(self.manifest)
            if differences:
                raise CacheMismatchError(
                    f"{self.out} is another store than {self.storage.place}:",
                    details=differences[:20],
                    hint="choose another place",
                )
        if here is None or (here.complete and here.parts != self.manifest.parts):
            self.manifest.model_copy(update={"complete": False, "parts": ()}).write(self.out)
        make_parts_group(self.out)  # after the manifest: without one the folder would be taken for something else

    def _check_space(self, missing: int) -> None:
        staged = sum(path.stat().st_size for path in self._staging.rglob("*") if path.is_file())
        free = shutil.disk_usage(self.out).free
        if missing - staged > free:
            raise OutputError(
                f"{(missing - staged) / 1e9:.2f} GB are missing at {self.out}, where {free / 1e9:.2f} GB are free",
                hint="free some space, or choose another place",
            )

    def _copy_parts(self, records: list[PartRecord], threads: ThreadPoolExecutor, copying: dict[Future[Any], str]) -> Iterator[int]:
        """All files of some parts; each part is put into place when its last file is here. `copying` has what is under way.

        Nothing is asked of the server but by `threads`: this one hears what goes wrong there.
        """
        waiting = iter(records)
        left: dict[str, tuple[PartRecord, int]] = {}
        listing: Future[PartFiles] | None = None
        while True:
            if listing is None and len(copying) < 2 * CONNECTIONS and (record := next(waiting, None)) is not None:
                listing = threads.submit(PartFiles, self.storage, record)
                copying[listing] = record.name
            if not copying:
                return
            finished, _ = wait(copying, INTERVAL, FIRST_COMPLETED)
            for future in finished:
                name, found = copying.pop(future), future.result()
                if future is listing:
                    listing, files = None, [*found.files.values(), found.listing]
                    left[name] = (found.record, len(files))
                    copying |= {threads.submit(self._copy, found.record, file): name for file in files}
                    continue
                record, count = left[name]
                left[name] = (record, count - 1)
                if count == 1:
                    self._place(record)
                    del left[name]
            yield self.done

    def _copy(self, record: PartRecord, file: StoredFile) -> None:
        """A file into the staging folder, going on with what is there; checked, and begun once more if that was of no use."""
        target = self._staging / record.name / file.name.removeprefix(f"{PARTS}/{record.name}/")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if self._append(file, target) or self._append(file, target):
                return
        except (ValueError, FileNotFoundError) as error:
            raise self.storage.corrupt(file.name, "the file is missing" if isinstance(error, FileNotFoundError) else str(error)) from None
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG):
                raise self.storage.corrupt(file.name, f"a name that no disk holds ({error.strerror})") from None
            raise
        raise self.storage.corrupt(file.name, "its bytes differ from the ones that were written")

    def _append(self, file: StoredFile, target: Path) -> bool:
        digest, size = hashlib.sha256(), 0
        with target.open("a+b") as out:
            out.seek(0)
            while block := out.read(2**20):
                digest.update(block)
                size += len(block)
            self._count(size)
            if size < file.bytes:
                # Closed at once, whatever happens: a server that bears few connections has this one back.
                blocks = self.storage.source.stream(file.name, size, file.bytes - size)
                with closing(cast(Generator[bytes, None, None], blocks)):
                    for block in blocks:
                        if self._stopped.is_set():
                            raise _StoppedError
                        out.write(block)
                        digest.update(block)
                        size += len(block)
                        self._count(len(block))
            if size == file.bytes and digest.hexdigest() == file.sha256:
                return True
            out.truncate(0)
        self._count(-size)
        return False

    def _count(self, num_bytes: int) -> None:
        with self._counting:
            self.done += num_bytes

    def _place(self, record: PartRecord) -> None:
        staged, target = self._staging / record.name, self.out / PARTS / record.name
        sync_tree(staged, self._flushers)
        if target.exists():  # damaged, or of another source
            old = self._staging / f"{record.name}.old"
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
        staged.rename(target)
        sync_folder(target.parent)

    def _copy_projection(self) -> None:
        if self.manifest.projection.sha256 is None:
            return
        try:
            if Cache(Storage(FolderSource(self.out)), self.manifest).projection() is not None:
                return
        except CacheCorruptError:
            pass
        staged, target = self._staging / PROJECTION, self.out / PROJECTION
        for name in PROJECTION_FILES:
            path = self._staging / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.storage.read_whole(name, 2 * MOST_MANIFEST_BYTES))
        Cache(Storage(FolderSource(self._staging)), self.manifest).projection()
        sync_tree(staged, self._flushers)
        shutil.rmtree(target, ignore_errors=True)
        staged.rename(target)
        sync_folder(self.out)

    def _finish(self) -> None:
        make_parts_group(self.out)
        if read_index(self.storage, self.manifest) is not None:
            write_durably(self.out / INDEX_FILE, self.storage.read_whole(INDEX_FILE, MOST_INDEX_BYTES))
        if (self.out / METADATA_FILE).read_bytes() != self._data:
            write_durably(self.out / METADATA_FILE, self._data)
        for leftover in partial_paths(self.out):  # of killed processes, and the staging folder
            sweep(leftover)


class _StoppedError(Cross4DError):
    """Another file has failed."""

    def __init__(self) -> None:
        super().__init__("stopped")
