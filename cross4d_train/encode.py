"""Features of every point of a store as work: a request says of which store and where they go; `encode` writes them."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cross4d_cache.errors import OutputError, SettingsError
from cross4d_cache.options import change
from cross4d_cache.record import Record
from cross4d_cache.store import Cache, open_cache
from cross4d_cache.store.digest import sha256_file
from cross4d_cache.work import Remark, Stage, Work, newer, steps
from cross4d_train.advice import on_device
from cross4d_train.checkpoint import load_checkpoint
from cross4d_train.feature_files import FORMATS, ColourSpace, FeatureFolder, FeatureIndex, FileFormat, folder_name
from cross4d_train.features import Student
from cross4d_train.places import checkpoint_at
from cross4d_train.recording import Recording
from cross4d_train.report.colours import Palette
from cross4d_train.resources import Resources

COLOUR_SEQUENCES, COLOUR_FEATURES = 32, 2**17
"""Evenly spaced sequences that colours are fitted on, a clip of each, and how many features of points altogether."""


class EncodeRequest(Record):
    """Features of every point of the first `limit` sequences of a store, of all by default, in the folder `out`.

    `checkpoint` is a place as `load` takes it; `encoder` is the name of the class of its encoder, where that was given. `stride` replaces
    that of the clips in training.
    """

    checkpoint: str
    store: str
    out: Path
    encoder: str | None = None
    formats: tuple[FileFormat, ...] = Field(default=FORMATS, min_length=1)
    stride: int | None = None
    limit: int | None = Field(default=None, ge=1)


class EncodeResult(Record):
    """What is there: sequences, `new` ones among them, their frames, channels of a feature, and bytes of their files."""

    out: str
    sequences: int
    new: int
    frames: int
    channels: int
    bytes: int

    def describe(self) -> str:
        """A line for each."""
        return "\n".join(f"{name:9}  {value:,}" if isinstance(value, int) else f"{name:9}  {value}" for name, value in self)


def encode(request: EncodeRequest, resources: Resources) -> Work[EncodeResult]:
    """Write the features of every point; sequences that an earlier call finished stay as they are.

    Raises:
        OutputError: a folder that cannot be written to, has no room, or has something else in it, or features of another request.
        Cross4DError: whatever else the user has to fix.
    """
    checkpoint, cache = checkpoint_at(request.checkpoint), open_cache(request.store)
    student = Student(load_checkpoint(checkpoint), resources.torch_device, request.encoder)
    yield from newer(student.record, request.checkpoint)
    yield from newer(cache.manifest, request.store)
    if len(cache) == 0:
        raise SettingsError(f"{request.store} has no sequences", hint="build it from data that has some")
    chosen = [cache.info(number) for number in range(len(cache))[: request.limit]]
    folder = FeatureFolder(request.out, _index(request, sha256_file(checkpoint), student, cache, [info.id for info in chosen]))
    yield from _announce(request, student, cache, sum(info.num_frames for info in chosen))
    fitted = "ply" in request.formats and not folder.is_begun
    folder.begin((yield from _fit_colours(student, cache, folder.index)) if fitted else None)
    left = [number for number, info in enumerate(chosen) if not folder.place(info.id).exists()]
    total, to_do = (sum(chosen[number].num_frames for number in numbers) for numbers in (range(len(chosen)), left))
    stage = Stage(name="encode", unit="frame", total=total, initial=total - to_do, advice=on_device(student.device))
    yield from steps(stage, _encode(student, cache, folder, left, first=total - to_do))
    yield from student.record.origin.warnings()
    size = sum(bytes_in(folder.place(info.id)) for info in chosen)
    return EncodeResult(out=str(request.out), sequences=len(chosen), new=len(left), frames=total, channels=student.channels, bytes=size)


def _index(request: EncodeRequest, sha256: str, student: Student, cache: Cache, ids: Sequence[str]) -> FeatureIndex:
    manifest, encoder = cache.manifest, student.record.settings.encoder
    return FeatureIndex(
        checkpoint_sha256=sha256,
        encoder=f"{encoder.name} {encoder.size}",
        channels=student.channels,
        dataset=manifest.dataset.name,
        fingerprint=manifest.fingerprint,
        sequences_sha256=manifest.plan.sha256,
        clips=change(student.clips, {} if request.stride is None else {"stride": request.stride}),
        formats=request.formats,
        colours=None,
        folders={id: folder_name(id) for id in ids},
    )


def _announce(request: EncodeRequest, student: Student, cache: Cache, num_frames: int) -> Iterator[Remark]:
    """How much there is to write, and whether there is room for it.

    Raises:
        OutputError: there is not.
    """
    parts = cache.manifest.parts
    points = num_frames * sum(part.num_points for part in parts) // max(sum(part.num_frames for part in parts), 1)
    sizes = {"npy": 4 * student.channels + 12, "ply": 15}
    size = points * sum(sizes[name] for name in request.formats)
    there = next(path for path in (request.out, *request.out.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    yield Remark(f"{student!r}")
    yield Remark(
        f"{num_frames:,} frames, about {points:,} points, {student.channels} channels: {size / 1e9:,.2f} GB as"
        f" {' and '.join(request.formats)}, with {free / 1e9:,.2f} GB free"
    )
    if size - bytes_in(request.out) > free:
        raise OutputError(
            f"about {size / 1e9:,.2f} GB of features do not fit to {there}, where {free / 1e9:,.2f} GB are free",
            hint="choose another `out`, fewer `formats`, or a `limit`",
        )


def _fit_colours(student: Student, cache: Cache, index: FeatureIndex) -> Work[ColourSpace]:
    """Colours for the whole store, from a clip in the middle of some of its sequences: equal features have equal colours everywhere."""
    numbers = np.unique(np.linspace(0, len(cache) - 1, min(len(cache), COLOUR_SEQUENCES)).round().astype(np.int64)).tolist()
    found = list[Tensor]()

    def sample() -> Iterator[int]:
        for number in numbers:
            frames = index.clips.frames(info := cache.info(number), (index.clips.windows(info) - 1) // 2)
            clip = cache.read_clip(number, frames, targets=False)
            recording = Recording(np.split(clip.points, clip.point_offsets[1:-1]))
            values = np.concatenate(list(student.by_frame(recording, stride=1)))
            count = min(len(values), COLOUR_FEATURES // len(numbers))
            found.append(torch.from_numpy(values[np.linspace(0, len(values) - 1, count).astype(np.int64)]))
            yield len(found)

    yield from steps(Stage(name="colours", unit="sequence", total=len(numbers), delay=2.0), sample())
    return ColourSpace.of(Palette.of(torch.cat(found)))


def _encode(student: Student, cache: Cache, folder: FeatureFolder, numbers: Sequence[int], first: int) -> Iterator[tuple[int, str]]:
    """How many frames are done, `first` of which were before, and of which sequence the last one is."""
    for number in numbers:
        id, recording = cache.info(number).id, Recording(cache.points(number))
        for done in folder.write(id, recording, student.by_frame(recording, stride=folder.index.clips.stride)):
            yield first + done, id
        first += len(recording)


def bytes_in(path: Path) -> int:
    """Bytes of all files of a folder, 0 if there is none."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
