"""A folder of features: for each sequence of a store the features of all its points as .npy, and its frames as .ply in colours."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import quote

import numpy as np
import torch
from jaxtyping import Float32

from cross4d_cache.durable import make_flushers, names_in, partial_path, partial_paths, sweep, sync_folder, sync_tree, write_durably
from cross4d_cache.errors import OutputError
from cross4d_cache.record import Record, RecordError, differences
from cross4d_cache.store.digest import Sha256
from cross4d_train.clips import ClipSettings
from cross4d_train.output import writing
from cross4d_train.recording import Recording
from cross4d_train.report.colours import Palette

INDEX_FILE = "index.json"
FileFormat = Literal["npy", "ply"]
FORMATS: tuple[FileFormat, ...] = ("npy", "ply")

PLY_VERTEX = np.dtype([("place", "<f4", 3), ("colour", "u1", 3)])
PLY_PROPERTIES = (*(f"float {name}" for name in "xyz"), *(f"uchar {name}" for name in ("red", "green", "blue")))


class ColourSpace(Record):
    """The colours of all .ply files of a folder, a `Palette`."""

    mean: tuple[float, ...]
    axes: tuple[tuple[float, ...], ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(cls, palette: Palette) -> "ColourSpace":
        """The record of a palette, from which its float32 numbers come back as they were."""
        return cls.model_validate({name: value.tolist() for name, value in vars(palette).items()})

    @property
    def palette(self) -> Palette:
        """The palette."""
        mean, axes, low, high = (torch.tensor(value) for value in (self.mean, self.axes, self.low, self.high))
        return Palette(mean=mean, axes=axes, low=low, high=high)


class FeatureIndex(Record):
    """What a folder of features is. `folders` gives the folder of each sequence that is there or was to be, by its id, in store order."""

    format_version: int = 1
    checkpoint_sha256: Sha256
    encoder: str
    channels: int
    dataset: str
    fingerprint: str
    sequences_sha256: str
    clips: ClipSettings
    formats: tuple[FileFormat, ...]
    colours: ColourSpace | None
    folders: dict[str, str]

    def differences(self, begun: "FeatureIndex") -> list[str]:
        """A line for each setting in which the features that are there differ from these. There may be more or fewer sequences."""
        mine, theirs = (index.model_copy(update={"folders": {}, "colours": None}) for index in (self, begun))
        return differences(mine, theirs)


def folder_name(id: str) -> str:
    """The folder of a sequence: its id, with %XX for what a path could mistake; ids come from other people."""
    name = quote(id, safe=" ()+,=@")
    return name.replace(".", "%2E", 1) if name.startswith(".") or name == INDEX_FILE else name or "%"


class FeatureFolder:
    """Where features are or will be. A sequence is there whole or not at all.

    Raises:
        OutputError: a place that cannot be written to, that has something else in it, or features of another request.
    """

    def __init__(self, path: Path, index: FeatureIndex) -> None:
        self.path, self._flushers = path, make_flushers()
        with writing(path):
            begun = self._read()
        if begun is not None and (found := index.differences(begun)):
            raise OutputError(
                f"{path} has features that were made otherwise:", details=found, expected="the same request", hint="choose another `out`"
            )
        self.is_begun = begun is not None
        self.index = index if begun is None else begun.model_copy(update={"folders": {**index.folders, **begun.folders}})

    def _read(self) -> FeatureIndex | None:
        """What a folder that was begun says of itself; None if nothing is there yet."""
        names = names_in(self.path) if self.path.exists() else set()
        if not names:
            return None
        if INDEX_FILE not in names:
            raise OutputError(
                f"{self.path} has something else in it: {min(names)}", expected="a folder of features, or none", hint="choose another `out`"
            )
        try:
            return FeatureIndex.from_json((self.path / INDEX_FILE).read_bytes())
        except RecordError as error:
            raise OutputError(f"{self.path / INDEX_FILE} cannot be read ({error})", hint="choose another `out`, or remove it") from None

    def begin(self, colours: ColourSpace | None) -> None:
        """Write the index, with the colours of a folder that is new, and clear what killed processes left.

        Raises:
            OutputError: it cannot be written.
        """
        if not self.is_begun:
            self.index = self.index.model_copy(update={"colours": colours})
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for left in list(partial_paths(self.path)):
                sweep(left)
            write_durably(self.path / INDEX_FILE, (self.index.model_dump_json(indent=1) + "\n").encode())

    def place(self, id: str) -> Path:
        """The folder of a sequence."""
        return self.path / folder_name(id)

    def write(self, id: str, recording: Recording, features: Iterable[Float32[np.ndarray, "_ channel"]]) -> Iterator[int]:
        """Write a sequence frame by frame, and say how many frames are done; it appears when all are.

        Raises:
            OutputError: it cannot be written.
        """
        partial = partial_path(self.path, "sequence")
        try:
            with writing(partial):
                partial.mkdir()
                yield from self._write_frames(partial, recording, features)
                sync_tree(partial, self._flushers)
                partial.rename(self.place(id))
                sync_folder(self.path)
        finally:
            sweep(partial)

    def _write_frames(self, folder: Path, recording: Recording, features: Iterable[Float32[np.ndarray, "_ channel"]]) -> Iterator[int]:
        offsets = np.cumsum([0, *map(len, recording.frames)])
        palette = None if self.index.colours is None else self.index.colours.palette
        with _npy(folder / "features.npy", (int(offsets[-1]), self.index.channels), wanted="npy" in self.index.formats) as file:
            if file is not None:
                np.save(folder / "points.npy", np.concatenate(recording.frames))
                np.save(folder / "offsets.npy", offsets)
            for number, (points, values) in enumerate(zip(recording.frames, features, strict=True)):
                if file is not None:
                    file.write(values.astype("<f4", copy=False).tobytes())
                if palette is not None:
                    (folder / f"{number:06d}.ply").write_bytes(ply(points, palette.colours(torch.from_numpy(values)).numpy()))
                yield number + 1


@contextmanager
def _npy(path: Path, shape: tuple[int, int], *, wanted: bool) -> Iterator[BinaryIO | None]:
    """A .npy file of float32 whose rows are to be written one after another, so that they never are in memory together."""
    if not wanted:
        yield None
        return
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        yield file


def ply(points: Float32[np.ndarray, "point 3"], colours: Float32[np.ndarray, "point 3"]) -> bytes:
    """A binary .ply file of points and their red, green and blue in [0, 1]."""
    vertices = np.empty(len(points), PLY_VERTEX)
    vertices["place"], vertices["colour"] = points, np.rint(255 * colours)
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    lines += [*(f"property {kind}" for kind in PLY_PROPERTIES), "end_header", ""]
    return "\n".join(lines).encode() + vertices.tobytes()
