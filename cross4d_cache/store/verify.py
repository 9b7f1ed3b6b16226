"""Checking every byte of a store against the hashes that were taken when it was written."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cross4d_cache.errors import CacheCorruptError
from cross4d_cache.store.digest import FILE_LIST, sha256_file
from cross4d_cache.store.part_reader import read_file_list
from cross4d_cache.store.reader import Cache
from cross4d_cache.store.writer import PARTS


@dataclass(frozen=True, kw_only=True)
class PartCheck:
    """What was found in one part: how many bytes were read, and what is wrong, one line a file."""

    name: str
    num_bytes: int
    problems: tuple[str, ...]


def verify(cache: Cache) -> Iterator[PartCheck]:
    """Hash every file of every part and compare; also the projection matrix, reported under its own name."""
    for number, record in enumerate(cache.manifest.parts):
        folder = cache.path / PARTS / record.name
        try:
            listed = read_file_list(folder, record.sha256)
        except CacheCorruptError as error:
            yield PartCheck(name=record.name, num_bytes=0, problems=(error.found,))
            continue
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        problems = [
            f"{folder / name}: the file does not belong to the store" for name in sorted(found.keys() - listed.keys() - {FILE_LIST})
        ]
        num_bytes = (folder / FILE_LIST).stat().st_size
        for name, file in listed.items():
            problem = _check_file(folder / name, file.bytes, file.sha256)
            problems += [problem] if problem else []
            num_bytes += file.bytes
        if not problems:
            try:
                cache.part(number)
            except CacheCorruptError as error:
                problems.append(error.found)
        yield PartCheck(name=record.name, num_bytes=num_bytes, problems=tuple(problems))
    try:
        matrix = cache.projection()
        yield PartCheck(name="projection", num_bytes=0 if matrix is None else matrix.nbytes, problems=())
    except CacheCorruptError as error:
        yield PartCheck(name="projection", num_bytes=0, problems=(error.found,))


def _check_file(path: Path, size: int, sha256: str) -> str | None:
    if not path.is_file():
        return f"{path}: the file is missing"
    if path.stat().st_size != size:
        return f"{path}: {path.stat().st_size} bytes instead of {size}"
    return None if sha256_file(path) == sha256 else f"{path}: its bytes differ from the ones that were written"
