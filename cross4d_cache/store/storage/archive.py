"""A zip whose members are stored, not compressed: each is a range of the one file, wherever that lies."""

import stat
import struct
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from cross4d_cache.errors import CacheFormatError
from cross4d_cache.store.storage.source import Source

LOCAL_HEADER = struct.Struct("<4s5H3L2H")
"""Before every member (APPNOTE 4.3.7): signature ... length of the name, length of the extra field."""
MOST_DIRECTORY_BYTES = 2**28


class _Member(NamedTuple):
    header: int
    name: bytes
    size: int


class ArchiveSource(Source):
    """The members of a zip that lies in another source, read in place.

    Raises:
        CacheFormatError: no zip, or one with members that a store does not have: compressed, encrypted, links, or with names that lead out.
        FileNotFoundError: there is no such file.
        CacheUnreachableError: it cannot be read now.
    """

    def __init__(self, source: Source, name: str) -> None:
        super().__init__(source.path(name), is_local=source.is_local)
        self._source, self._name = source, name
        self._starts: dict[str, int] = {}
        try:
            self._bytes = source.size(name)
            self._members = self._list()
        except (zipfile.BadZipFile, struct.error, ValueError, OverflowError, NotImplementedError, EOFError) as error:
            raise CacheFormatError(
                f"{self.place} is no zip of a store: {str(error) or type(error).__name__}",
                expected="a file that `cross4d-cache pack` wrote",
                hint="copy or pack it again",
            ) from None

    def _list(self) -> dict[str, _Member]:
        members: dict[str, _Member] = {}
        with zipfile.ZipFile(_File(self._source, self._name, self._bytes)) as archive:  # a file, as far as it is used
            for info in archive.infolist():
                name = info.orig_filename
                if name.endswith("/"):
                    continue
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG) or info.flag_bits & 0x1 or info.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"member {name!r} is a link, encrypted or compressed")
                if not is_plain_name(name) or name in members:
                    raise ValueError(f"member {name!r} has a name that leads out of the store, or that another one has")
                if info.compress_size != info.file_size or info.header_offset + info.file_size > self._bytes:
                    raise ValueError(f"member {name!r} is larger than the file")
                members[name] = _Member(info.header_offset, name.encode("utf-8" if info.flag_bits & 0x800 else "cp437"), info.file_size)
        return members

    def _member(self, name: str) -> _Member:
        if name not in self._members:
            raise FileNotFoundError(name)
        return self._members[name]

    def size(self, name: str) -> int:
        """Bytes of a member."""
        return self._member(name).size

    def stamp(self, name: str) -> object:
        """That of the whole file."""
        return self._source.stamp(self._name)

    def stop(self) -> None:
        """End all reads of the file that wait."""
        self._source.stop()

    def stream(self, name: str, start: int, size: int) -> Iterator[bytes]:
        """Exactly `size` bytes of a member from `start`, in blocks."""
        member = self._member(name)
        if start + size > member.size:
            raise ValueError(f"the member ends at {member.size} in place of {start + size} bytes")
        return self._source.stream(self._name, self._start(name, member) + start, size)

    def _start(self, name: str, member: _Member) -> int:
        """Where its bytes begin: behind a header of its own, which may be longer than its entry in the directory."""
        if name not in self._starts:
            header = self._source.read(self._name, member.header, LOCAL_HEADER.size + len(member.name))
            signature, *_, name_bytes, extra_bytes = LOCAL_HEADER.unpack(header[: LOCAL_HEADER.size])
            start = member.header + LOCAL_HEADER.size + name_bytes + extra_bytes
            if signature != b"PK\x03\x04" or header[LOCAL_HEADER.size :] != member.name or name_bytes != len(member.name):
                raise ValueError("the member's header contradicts the zip's directory")
            if start + member.size > self._bytes:
                raise ValueError("the member is larger than the file")
            self._starts[name] = start
        return self._starts[name]

    def names(self) -> list[str]:
        """All members, sorted."""
        return sorted(self._members)


def is_plain_name(name: str) -> bool:
    """Whether a relative name stays below its folder, on any system."""
    parts = PurePosixPath(name).parts
    strange = "\\" in name or ":" in name or any(unicodedata.category(letter) == "Cc" for letter in name)
    return bool(parts) and not strange and name == "/".join(parts) and parts[0] != "/" and ".." not in parts


class _File:
    """What `zipfile` needs of a file that it reads the directory of."""

    mode = "rb"

    def __init__(self, source: Source, name: str, size: int) -> None:
        self._source, self._name, self._size = source, name, size
        self._position = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        position = offset + (0, self._position, self._size)[whence]
        if position < 0:
            raise ValueError("a place before the file's beginning")
        self._position = position
        return position

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._position)
        size = left if size is None or size < 0 else min(size, left)
        if size > MOST_DIRECTORY_BYTES:
            raise ValueError(f"a directory of {size} bytes")
        data = self._source.read(self._name, self._position, size) if size else b""
        self._position += size
        return data

    def close(self) -> None:
        pass
