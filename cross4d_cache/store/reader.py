"""Reading clips from a store: parts are opened when they are needed, and only so many stay open."""

from collections import OrderedDict
from functools import cached_property
from pathlib import Path

import numpy as np
import zarr
from jaxtyping import Float32, Int64

from cross4d_cache.errors import CacheIncompleteError
from cross4d_cache.store.digest import sha256_bytes
from cross4d_cache.store.manifest import METADATA_FILE, CacheManifest
from cross4d_cache.store.part_reader import Part, PartFiles, corrupt
from cross4d_cache.store.writer import PARTS, PROJECTION, part_record
from cross4d_cache.types import CachedClip, Camera, SequenceInfo

MOST_OPEN_PARTS = 256
"""Parts that stay open, some hundred kilobytes each."""


class Cache:
    """An open store. Memory holds the listing and the frame tables of the parts that were read last."""

    def __init__(self, path: Path, manifest: CacheManifest) -> None:
        self.path, self.manifest = path, manifest
        self._parts: OrderedDict[int, Part] = OrderedDict()
        self._first = np.cumsum([0, *(part.num_sequences for part in manifest.parts)])

    def part(self, number: int) -> Part:
        """Part `number`, open.

        Raises:
            CacheCorruptError: its metadata or tables differ from what was written.
        """
        if number not in self._parts:
            record = self.manifest.parts[number]
            folder = self.path / PARTS / record.name
            self._parts[number] = Part(folder, record, render=self.manifest.render, channels=self.manifest.projection.channels)
            if len(self._parts) > MOST_OPEN_PARTS:
                self._parts.popitem(last=False)
        self._parts.move_to_end(number)
        return self._parts[number]

    def _locate(self, index: int) -> tuple[Part, int]:
        if not 0 <= index < self._first[-1]:
            raise IndexError(f"sequence {index} of {self._first[-1]}")
        number = int(np.searchsorted(self._first, index, side="right")) - 1
        return self.part(number), index - int(self._first[number])

    @cached_property
    def sequences(self) -> tuple[SequenceInfo, ...]:
        """All sequences, in store order; reads one small file of every part.

        Raises:
            CacheCorruptError: a table of sequences differs from the one that was written.
        """
        files = (PartFiles(self.path / PARTS / record.name, record) for record in self.manifest.parts)
        return tuple(info for part in files for info in part.sequences())

    def info(self, index: int) -> SequenceInfo:
        """What is known of sequence `index`; opens the part that holds it and no other.

        Raises:
            CacheCorruptError: the part's metadata differs from what was written.
            IndexError: no such sequence.
        """
        part, local = self._locate(index)
        return part.infos[local]

    def read_clip(self, index: int, frames: Int64[np.ndarray, " frame"], *, targets: bool = True, labels: bool = False) -> CachedClip:
        """Some frames of sequence `index`, with their targets and, if asked for, their labels.

        `frames` are ascending frame numbers, repeats allowed. Each array is read as one range of rows.

        Raises:
            CacheCorruptError: bytes that were read differ from the ones that were written.
            IndexError: no such sequence or frame.
        """
        part, local = self._locate(index)
        if len(frames) == 0 or frames[0] < 0 or frames[-1] >= part.infos[local].num_frames or (np.diff(frames) < 0).any():
            raise IndexError(f"frames {frames} of a sequence of {part.infos[local].num_frames} frames")
        return part.read_clip(local, frames, targets=targets, labels=labels)

    def cameras(self, index: int, frame: int) -> tuple[Camera, ...]:
        """The cameras that saw a frame of sequence `index`, one a view.

        Raises:
            CacheCorruptError: bytes that were read differ from the ones that were written.
            IndexError: no such sequence or frame.
        """
        part, local = self._locate(index)
        if not 0 <= frame < part.infos[local].num_frames:
            raise IndexError(f"frame {frame} of a sequence of {part.infos[local].num_frames} frames")
        return part.cameras(local, frame)

    def projection(self) -> Float32[np.ndarray, "channel_in channel_out"] | None:
        """The matrix that took teacher channels to target channels, if there was one.

        Raises:
            CacheCorruptError: it differs from the one that was written.
        """
        record = self.manifest.projection
        if record.sha256 is None:
            return None
        try:
            matrix = np.asarray(zarr.open_array(self.path / PROJECTION, mode="r")[...])
        except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:  # whatever damaged metadata leads to
            raise corrupt(self.path / PROJECTION, f"the matrix cannot be read ({type(error).__name__})") from None
        if sha256_bytes(matrix.tobytes()) != record.sha256:
            raise corrupt(self.path / PROJECTION, "the matrix differs from the one that was written")
        return matrix


def open_cache(path: Path | str, *, allow_partial: bool = False) -> Cache:
    """Open a store for reading.

    With `allow_partial` a store that is still being built shows the parts that are committed.

    Raises:
        CacheFormatError: no store there, or one of an unknown format version.
        CacheIncompleteError: the build has not finished.
        CacheCorruptError: a committed part of an unfinished store cannot be read.
    """
    path = Path(path)
    manifest = CacheManifest.read(path)
    if not manifest.complete:
        folders = sorted((path / PARTS).glob("[0-9]*"))
        if not allow_partial:
            raise CacheIncompleteError(
                f"{path} is not finished: {len(folders)} of {manifest.plan.num_parts} parts are there",
                hint="run the same `cross4d-cache build` again; it goes on where it stopped",
            )
        manifest = manifest.model_copy(update={"parts": tuple(part_record(folder, manifest.fingerprint) for folder in folders)})
    return Cache(path, manifest)


def stored_projection(path: Path) -> Float32[np.ndarray, "channel_in channel_out"] | None:
    """The matrix of a store that was begun at `path`, finished or not; None if there is none yet.

    Raises:
        CacheFormatError: no store there, but something else, or one of an unknown format version.
        CacheCorruptError: the matrix differs from the one that was written.
    """
    begun = (path / METADATA_FILE).exists() and (path / PROJECTION).exists()
    return Cache(path, CacheManifest.read(path)).projection() if begun else None
