"""The files of a store, checked: bytes that differ from the written ones raise, wherever they come from."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import cached_property
from typing import NamedTuple, TypeVar

from cross4d_cache.errors import CacheCorruptError
from cross4d_cache.store.digest import sha256_bytes
from cross4d_cache.store.shard import Span
from cross4d_cache.store.storage.blobs import Blobs
from cross4d_cache.store.storage.source import CONNECTIONS, Source

ATTEMPTS = 2
"""Downloads of a piece whose hash does not fit; a server may have been in the middle of a change."""
MOST_PIECE_BYTES = 2**31

Item = TypeVar("Item")
Result = TypeVar("Result")


class StoredFile(NamedTuple):
    """A file of a store, as the store's own lists have it."""

    name: str
    bytes: int
    sha256: str


class Storage:
    """Reads of a source. What is on this machine is read where it lies; of anything else the pieces are kept in `blobs`, if there are any.

    A piece of a large file is checked against its hash when it is loaded; on this machine that is left to the checksum of the chunk
    that it is, and to the stamp of the file.
    """

    def __init__(self, source: Source, blobs: Blobs | None = None) -> None:
        self.source, self._blobs = source, blobs

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return self.source.place

    def corrupt(self, name: str, what: str) -> CacheCorruptError:
        """The error for bytes that are not what was written."""
        return CacheCorruptError(f"{self.source.path(name)}: {what}", hint="run `cross4d-cache verify` on the store; it says what fixes it")

    def fetch(self, file: StoredFile) -> bytes:
        """A whole file.

        Raises:
            CacheCorruptError: it is missing, or differs from the one that was written.
            CacheUnreachableError: it cannot be read now.
        """
        span = Span(0, file.bytes)
        kept = self._kept(span, file.sha256)
        return self._load(file.name, span, file.sha256) if kept is None else kept

    def fetch_list(self, name: str, sha256: str, most: int) -> bytes:
        """A whole file of at most `most` bytes, whose hash is known but not its size.

        Raises:
            CacheCorruptError: it is missing, or differs from the one that was written.
            CacheUnreachableError: it cannot be read now.
        """
        kept = self._blobs.get(sha256) if self._blobs else None
        if kept is not None:
            return kept
        data = self.read_whole(name, most)
        if sha256_bytes(data) != sha256:
            raise self.corrupt(name, "its bytes differ from the ones that were written")
        if self._blobs:
            self._blobs.put(sha256, data)
        return data

    def read_whole(self, name: str, most: int) -> bytes:
        """A file of which nothing is known but that it has at most `most` bytes.

        Raises:
            CacheCorruptError: it is missing or larger.
            CacheUnreachableError: it cannot be read now.
        """
        try:
            return self.source.whole(name, most)
        except (FileNotFoundError, ValueError) as error:
            raise self.corrupt(name, _reason(error)) from None

    def spans(self, file: StoredFile, spans: Sequence[Span], hashes: Sequence[str] | None) -> list[bytes]:
        """Ranges of a file, whose hashes may not be known.

        Raises:
            CacheCorruptError: the file is missing or shorter; on other machines also: a range differs from the one that was written.
            CacheUnreachableError: it cannot be read now.
        """
        if self.source.is_local:
            return self._read_adjacent(file.name, spans)
        if hashes is None:
            whole = memoryview(self.fetch(file))
            return [bytes(whole[span.start : span.start + span.size]) for span in spans]
        kept = [self._kept(span, sha256) for span, sha256 in zip(spans, hashes, strict=True)]
        missing = [number for number, data in enumerate(kept) if data is None]
        loaded = iter(self.map(lambda number: self._load(file.name, spans[number], hashes[number]), missing))
        return [next(loaded) if data is None else data for data in kept]

    def stream(self, file: StoredFile) -> Iterator[bytes]:
        """A whole file in blocks, from where it really lies; they are only known to be right when the last one has been given.

        Raises:
            CacheCorruptError: it is missing, has another size, or differs from the one that was written.
            CacheUnreachableError: it cannot be read now.
        """
        self.check(file)
        digest = hashlib.sha256()
        try:
            for block in self.source.stream(file.name, 0, file.bytes):
                digest.update(block)
                yield block
        except (FileNotFoundError, ValueError) as error:
            raise self.corrupt(file.name, _reason(error)) from None
        if digest.hexdigest() != file.sha256:
            raise self.corrupt(file.name, "its bytes differ from the ones that were written")

    def check(self, file: StoredFile) -> object:
        """Look at a file without reading it, where it is on this machine. Its stamp.

        Raises:
            CacheCorruptError: it is missing, or has another size.
        """
        if not self.source.is_local:
            return None
        try:
            found, stamp = self.source.size(file.name), self.source.stamp(file.name)
        except (FileNotFoundError, ValueError) as error:
            raise self.corrupt(file.name, _reason(error)) from None
        if found != file.bytes:
            raise self.corrupt(file.name, f"the file has {found} bytes instead of {file.bytes}")
        return stamp

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Results in order; where every request takes its time, of many at once. The first error ends them all: what waits for a server
        would keep the process for as long.
        """
        items = list(items)
        if self.source.is_local or len(items) < 2:
            return list(map(function, items))
        futures = [self._threads.submit(function, item) for item in items]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
            return [future.result() for future in futures]
        finally:
            self.source.end(futures)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="storage")

    def _read_adjacent(self, name: str, spans: Sequence[Span]) -> list[bytes]:
        start, end = min(span.start for span in spans), max(span.start + span.size for span in spans)
        if end - start == sum(span.size for span in spans):
            data = memoryview(self._read(name, Span(start, end - start)))
            return [bytes(data[span.start - start : span.start - start + span.size]) for span in spans]
        return [self._read(name, span) for span in spans]

    def _read(self, name: str, span: Span) -> bytes:
        try:
            return self.source.read(name, *span)
        except (FileNotFoundError, ValueError) as error:
            raise self.corrupt(name, _reason(error)) from None

    def _kept(self, span: Span, sha256: str) -> bytes | None:
        data = self._blobs.get(sha256) if self._blobs else None
        return data if data is not None and len(data) == span.size else None

    def _load(self, name: str, span: Span, sha256: str) -> bytes:
        if span.size > MOST_PIECE_BYTES:
            raise self.corrupt(name, f"{span.size} bytes are more than anything reads at once")
        for _ in range(1 if self.source.is_local else ATTEMPTS):
            data = self._read(name, span)
            if sha256_bytes(data) == sha256:
                if self._blobs:
                    self._blobs.put(sha256, data)
                return data
        raise self.corrupt(name, "its bytes differ from the ones that were written")


def _reason(error: FileNotFoundError | ValueError) -> str:
    return "the file is missing" if isinstance(error, FileNotFoundError) else str(error)
