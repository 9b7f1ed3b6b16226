"""RGB-D recordings: depth images, the camera's trajectory, motion masks and the labelled static reconstruction, made into points.

Points are made as for the official challenge files: depths below a limit, one point per voxel (of a grid in the camera's frame, which
takes a fifth of the time), moved to the frame of the static reconstruction.
Depth is `align_depth/00000.png` and so on, 16-bit millimetres aligned to the colour image, as ffmpeg writes it from `depth_video.avi`.
"""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, UInt8, UInt16

from cross4d_cache.datasets.depth_image import Pinhole, read_png, unproject
from cross4d_cache.datasets.files import Expected
from cross4d_cache.datasets.hoi4d.background import Background
from cross4d_cache.datasets.hoi4d.events import read_events, unknown_events
from cross4d_cache.datasets.hoi4d.folders import Place, find_recordings, numbered_images, read_lists
from cross4d_cache.datasets.hoi4d.intrinsics import HEIGHT, WIDTH, constants, read_intrinsics, rig_name
from cross4d_cache.datasets.hoi4d.labels import BACKGROUND, EVENT_NAMES, PART_NAMES, classes_of_colours
from cross4d_cache.datasets.hoi4d.trajectory import read_trajectory
from cross4d_cache.datasets.hoi4d.voxels import voxel_means
from cross4d_cache.errors import DatasetError
from cross4d_cache.join import first_of
from cross4d_cache.types import UNLABELLED, Frame, SequenceInfo

MASK_SHIFTS = {1: (0, 0), 2: (15, -3), 3: (15, -30), 4: (15, -3)}
"""Columns and rows by which the masks in `2Dseg/mask` have to be moved right and down, by rig; those in `2Dseg/shift_mask` have been."""


@dataclass(frozen=True)
class RecordingSettings:
    """How points are made; the reader's options of the same names."""

    frame_of_reference: Literal["world", "camera"]
    intrinsics: Literal["auto", "file", "constants"]
    labels: bool
    depth_limit: float
    voxel: float


class Recordings:
    """All recordings below a folder."""

    action_names = EVENT_NAMES
    part_names = PART_NAMES

    def __init__(self, root: Path, settings: RecordingSettings) -> None:
        self._root, self._settings = root, settings

    @cached_property
    def _sides(self) -> Mapping[str, str]:
        return read_lists(self._root)

    def expected(self) -> Expected:
        """What the official lists name, if they are there."""
        splits = {"official": dict(Counter(self._sides.values()))} if self._sides else {}
        return Expected(num_sequences=len(self._sides) or None, splits=splits, ids=tuple(self._sides))

    def scan(self) -> Iterator[SequenceInfo | DatasetError]:
        """All recordings in the order of their ids; only names are looked at."""
        try:
            sides = self._sides
        except DatasetError as error:
            yield error
            return
        for place in find_recordings(self._root):
            try:
                recording = Recording(self._root, place, self._settings)
            except DatasetError as error:
                yield error.of(place.id)
                continue
            side = sides.get(place.id)
            splits = {"official": side} if side else {}
            yield SequenceInfo(id=place.id, num_frames=recording.num_frames, subject=place.person, camera=place.rig, splits=splits)

    def notes(self) -> Sequence[str]:
        """Which files that recordings may have are missing, and what is done without them."""
        recordings = find_recordings(self._root)
        wanted = {
            "masks, so no semantic classes": ("2Dseg/shift_mask", "2Dseg/mask"),
            "3Dseg/label.txt, so no classes of the background": ("3Dseg/label.txt",),
            "action/color.json, so no actions": ("action/color.json",),
        }
        lacking = {what: sum(place.find(self._root, *names) is None for place in recordings) for what, names in wanted.items()}
        notes = [f"{count:,} recordings without {what}" for what, count in lacking.items() if count and self._settings.labels]
        rigs = sorted({place.rig for place in recordings if intrinsics_file(self._root, place.rig) is None})
        if rigs and self._settings.intrinsics != "constants":
            notes.append(f"no camera_params for rigs {', '.join(map(rig_name, rigs))}: intrinsics are documented constants")
        return [*notes, *self._unknown_events(recordings)]

    def _unknown_events(self, recordings: Sequence[Place]) -> Iterator[str]:
        """Events whose frames stay without an action because no class is known for their name."""
        files = [place.find(self._root, "action/color.json") for place in recordings] if self._settings.labels else []
        unknown: Counter[str] = Counter()
        for path in filter(None, files):
            with suppress(DatasetError):  # reading the recording says so
                unknown.update(unknown_events(path))
        if unknown:
            counts = (f"{name!r} ({count:,})" for name, count in sorted(unknown.items()))
            yield f"events of no known class, so without an action, by how many recordings have them: {first_of(counts)}"

    def path(self, name: str) -> Path:
        """The folder in which a recording's depth lies."""
        return self._recording(name).depth_folder

    def num_frames(self, name: str) -> int:
        """Depth images of a recording."""
        return self._recording(name).num_frames

    def frames(self, name: str, numbers: range) -> Iterator[Frame]:
        """Those frames of a recording, metres."""
        return self._recording(name).frames(numbers)

    def _recording(self, name: str) -> "Recording":
        place = Place.parse(name.replace("-", "/"))
        assert place is not None
        return Recording(self._root, place, self._settings)


class Recording:
    """One recording: which files it has.

    Raises:
        DatasetError: files that it needs are missing, saying how to get them.
    """

    def __init__(self, root: Path, place: Place, settings: RecordingSettings) -> None:
        self._root, self._place, self._settings = root, place, settings
        depth = place.find(root, "align_depth/00000.png", "align_depth/0.png") or place.find(
            root, "align_depth/depth_video.avi", "align_depth"
        )
        if depth is None:
            raise DatasetError(f"{root} has no depth of {place.id} any more", hint="run the same command again")
        self.depth_folder = depth if depth.name == "align_depth" else depth.parent
        if depth.suffix == ".avi":
            images = self.depth_folder / "%05d.png"
            command = shlex.join(["ffmpeg", "-i", str(depth), "-vf", "fps=15", "-f", "image2", "-start_number", "0", str(images)])
            raise DatasetError(
                f"{depth} is not extracted",
                expected=f"16-bit images {self.depth_folder}/00000.png and so on",
                hint=f"run {command}",
            )
        self._depth = numbered_images(self.depth_folder)
        self.num_frames = len(self._depth)
        if not self.num_frames:
            raise DatasetError(f"{self.depth_folder} holds no images", expected="00000.png and so on", hint="extract or fetch it again")
        self._trajectory = place.find(root, "3Dseg/output.log")
        if self._trajectory is None and settings.frame_of_reference == "world":
            raise DatasetError(
                f"{place.id} has no 3Dseg/output.log, the camera's trajectory",
                expected=f"{root}/HOI4D_annotations beside the depth, or its files merged with it",
                hint="fetch it, pass the folder that holds both trees, or keep the camera's: `dataset.options` frame_of_reference=camera",
            )
        self._mask_folder = place.find(root, "2Dseg/shift_mask", "2Dseg/mask") if settings.labels else None
        self._masks = numbered_images(self._mask_folder) if self._mask_folder else {}
        if self._mask_folder and len(self._masks) != self.num_frames:
            raise DatasetError(
                f"{self._mask_folder}: {len(self._masks)} masks for {self.num_frames} depth images",
                expected="as many",
                hint="fetch or extract again, or read without: `dataset.options` labels=false",
            )

    def frames(self, numbers: range) -> Iterator[Frame]:
        """Those frames, metres."""
        pinhole, settings = self._pinhole(), self._settings
        label_file = self._place.find(self._root, "3Dseg/label.txt") if self._masks and self._trajectory else None
        needed = settings.frame_of_reference == "world" or label_file is not None
        poses = read_trajectory(self._trajectory, self.num_frames) if self._trajectory and needed else None
        background = Background(label_file) if label_file else None
        event_file = self._place.find(self._root, "action/color.json") if settings.labels else None
        actions = read_events(event_file, self.num_frames) if event_file else [UNLABELLED] * self.num_frames
        for number in numbers:
            depth = read_png(self.depth_folder / self._depth[number], WIDTH, HEIGHT)
            depth[depth >= settings.depth_limit * 1000] = 0
            labels = self._mask_classes(number, depth) if self._masks else None
            frame = Frame(points=unproject(depth, pinhole) * np.float32(0.001), part_labels=labels, action=actions[number])
            if settings.voxel:
                frame = voxel_means(frame, settings.voxel)
            world = frame.points if poses is None else _move(poses[number], frame.points)
            if frame.part_labels is not None:
                _label_background(frame.part_labels, world, background)
            yield frame if settings.frame_of_reference == "camera" else replace(frame, points=world)

    def _pinhole(self) -> Pinhole:
        rig, wanted = self._place.rig, self._settings.intrinsics
        path = intrinsics_file(self._root, rig)
        if wanted == "constants" or (wanted == "auto" and path is None):
            return constants(rig)
        return read_intrinsics(path or self._root / "camera_params" / rig_name(rig) / "intrin.npy")

    def _mask_classes(self, number: int, depth: UInt16[np.ndarray, "row column"]) -> UInt16[np.ndarray, " point"]:
        """What the mask says of every pixel with a depth, in raster order."""
        assert self._mask_folder is not None
        colours = read_png(self._mask_folder / self._masks[number], WIDTH, HEIGHT, "RGB")
        if self._mask_folder.name == "mask":
            colours = _shift(colours, *MASK_SHIFTS[self._place.rig])
        classes: UInt16[np.ndarray, " point"] = classes_of_colours(colours, self._place.category)[depth != 0]
        return classes


def intrinsics_file(root: Path, rig: int) -> Path | None:
    """The intrinsics of a rig, in the folder of the recordings or beside it."""
    paths = (folder / "camera_params" / rig_name(rig) / "intrin.npy" for folder in (root, root.parent))
    return next((path for path in paths if path.exists()), None)


def _shift(image: UInt8[np.ndarray, "row column 3"], right: int, down: int) -> UInt8[np.ndarray, "row column 3"]:
    """An image moved by some pixels, black where nothing comes from."""
    padded = np.pad(image, ((max(down, 0), max(-down, 0)), (max(right, 0), max(-right, 0)), (0, 0)))
    return padded[max(-down, 0) :, max(-right, 0) :][: len(image), : image.shape[1]]


def _move(pose: Float64[np.ndarray, "4 4"], points: Float32[np.ndarray, "point 3"]) -> Float32[np.ndarray, "point 3"]:
    matrix = pose.astype(np.float32)
    moved: Float32[np.ndarray, "point 3"] = points @ matrix[:3, :3].T + matrix[:3, 3]
    return moved


def _label_background(labels: UInt16[np.ndarray, " point"], world: Float32[np.ndarray, "point 3"], background: Background | None) -> None:
    """Replace `BACKGROUND` by the class of the static reconstruction there, or by 0 without one."""
    unknown = labels == BACKGROUND
    labels[unknown] = background.classes(world[unknown]) if background is not None and unknown.any() else 0
