"""What has been loaded from other machines, kept on this one: pieces of files by their hash, no more of them than were allowed."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cross4d_cache.errors import SettingsError
from cross4d_cache.store.digest import sha256_bytes

FOLDER = "CROSS4D_CACHE_DIR"
"""Environment variable: where pieces are kept, by default `~/.cache/cross4d`."""
GIGABYTES = "CROSS4D_CACHE_GIGABYTES"
"""Environment variable: how many of them."""
DEFAULT_GIGABYTES = 20.0
SWEPT_TO = 0.8
"""Share of the space that is left in use by a sweep."""
SWEEPS = 64
"""Shares of the space after each of which this process sweeps again; others may be writing as well."""


class Blobs:
    """Pieces of files by their sha256. A piece that was damaged on this disk is taken for none. Any number of processes may use one folder;
    nothing depends on it: without space, or without permission, pieces are loaded anew.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder, self.most_bytes = folder, most_bytes
        self._unswept = most_bytes  # the first piece that is kept makes a sweep

    @classmethod
    def of_user(cls) -> "Blobs":
        """Those of the environment variables.

        Raises:
            SettingsError: no number of gigabytes.
        """
        folder, said = folder_of_user(), os.environ.get(GIGABYTES) or str(DEFAULT_GIGABYTES)
        try:
            most_bytes = int(float(said) * 1e9)
        except (ValueError, OverflowError):
            most_bytes = -1
        if most_bytes < 0:
            raise SettingsError(f"{GIGABYTES}={said[:40]}", expected="a number, 0 or more", hint="fix or unset the environment variable")
        return cls(folder, most_bytes) if folder is not None else cls(Path(os.devnull), 0)

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256

    def get(self, sha256: str) -> bytes | None:
        """A piece, if it is here and intact."""
        path = self._path(sha256)
        try:
            data = path.read_bytes()
            if sha256_bytes(data) == sha256:
                os.utime(path)  # for the sweep: used last
                return data
            path.unlink()
        except OSError:
            pass
        return None

    def put(self, sha256: str, data: bytes) -> None:
        """Keep a piece, whose hash this is."""
        if len(data) > self.most_bytes * (1 - SWEPT_TO):
            return
        self._unswept += len(data)
        if self._unswept > self.most_bytes / SWEEPS:
            self._sweep()
            self._unswept = 0
        path = self._path(sha256)
        aside = path.with_name(f".{secrets.token_hex(8)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(data)
            aside.replace(path)
        except OSError:
            with suppress(OSError):
                aside.unlink()

    def _sweep(self) -> None:
        """Remove the pieces that were used longest ago."""
        found = sorted(self._pieces())
        size = sum(size for _, size, _ in found)
        if size <= self.most_bytes * SWEPT_TO:
            return
        for _, bytes_, path in found:
            if size <= self.most_bytes * SWEPT_TO:
                return
            try:
                os.unlink(path)
                size -= bytes_
            except OSError:
                pass

    def _pieces(self) -> Iterator[tuple[int, int, str]]:
        for group in _entries(self.folder, "[0-9a-f]{2}"):
            for entry in _entries(group.path, r"[0-9a-f]{64}|\.[0-9a-f]{16}"):  # nobody else's files, whatever folder was named
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                yield found.st_mtime_ns, found.st_size, entry.path


def folder_of_user() -> Path | None:
    """Where what was loaded is kept; None where the user has no home, as in containers that run under any number."""
    if folder := os.environ.get(FOLDER):
        return Path(folder)
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / "cross4d"
    try:
        return Path.home() / ".cache" / "cross4d"
    except RuntimeError:
        return None


def _entries(folder: Path | str, name: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if re.fullmatch(name, entry.name)]
    except OSError:
        return []
