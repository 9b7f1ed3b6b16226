"""MSR-Action3D (Li et al. 2010): depth sequences of 20 actions by 10 subjects, in the official `.bin` files or as the `.npz` of peers.

A `.bin` file: three little-endian uint32 (frames, width, height), then the frames. Either width x height uint32 depths a frame, or per row
width int32 depths followed by width bytes of player index. One depth unit is 5 mm, 0 is background; the sensor is a pinhole of
focal length 285.62 px with its centre at (160, 120) of 320 x 240 pixels (measured from the dataset's skeletons).

A `.npz` file, as MeteorNet's scripts write it: an object array `point_clouds`, each frame the points of one depth image in raster order,
unprojected with a focal length of 280 px instead; z is the raw depth. Both forms of a recording give the same points.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float32, UInt32

from cross4d_cache.datasets.depth_image import Pinhole, change_pinhole, unproject
from cross4d_cache.datasets.files import Expected, FileDataset, FileOptions, FrameRate, Positive, Release
from cross4d_cache.datasets.looking import look_at
from cross4d_cache.datasets.object_array import open_object_array
from cross4d_cache.errors import DatasetError, SettingsError
from cross4d_cache.join import first_of
from cross4d_cache.types import Frame, SequenceInfo

PINHOLE = Pinhole(fx=285.62, fy=285.62, cx=160.0, cy=120.0)
NPZ_PINHOLE = Pinhole(fx=280.0, fy=280.0, cx=160.0, cy=120.0)
NPZ_KEY = "point_clouds"
HEADER_BYTES = 12
_AGAIN = "fetch it again, or move it out of the folder"
LEAST_DEPTH = 50.0
LARGEST_DEPTH = 4000
"""Units; the dataset's own depths end at 649."""
_FILE_NAME = re.compile(r"a(0[1-9]|1\d|20)_s(0[1-9]|10)_e(0[1-3])_sdepth\.(bin|npz)")
_RESEMBLES = re.compile(r"\.(bin|npz)$", re.IGNORECASE)

NEVER_RECORDED = {
    (1, 4): (1, 2, 3), (2, 4): (1, 2, 3), (3, 4): (1, 2, 3), (4, 3): (3,), (4, 4): (1, 2, 3), (5, 4): (1, 2, 3), (5, 6): (3,),
    (6, 4): (1, 2, 3), (6, 6): (3,), (7, 4): (3,), (7, 7): (3,), (15, 2): (3,), (15, 3): (1, 2, 3), (15, 4): (1, 2, 3),
    (15, 5): (1, 2, 3),
}  # fmt: skip
"""Takes that do not exist, by action and subject: 567 of 600 do (datasets/MSRAction_all.list of JohnsonSign/PointCMP)."""

ACTION_NAMES = (
    "high arm wave",
    "horizontal arm wave",
    "hammer",
    "hand catch",
    "forward punch",
    "high throw",
    "draw x",
    "draw tick",
    "draw circle",
    "hand clap",
    "two hand wave",
    "side boxing",
    "bend",
    "forward kick",
    "side kick",
    "jogging",
    "tennis swing",
    "tennis serve",
    "golf swing",
    "pickup and throw",
)


class MSROptions(FileOptions):
    """`form` chooses between `.bin` and `.npz` files where a folder holds both.

    The unit is that of depth pixels, in both: 5 mm (measured from the dataset's skeletons, within about 2 %).
    """

    form: Literal["auto", "bin", "npz"] = "auto"
    metres_per_unit: Positive = 0.005
    frame_rate: FrameRate = 15.0


class MSRAction3D(FileDataset):
    """The `aAA_sSS_eEE_sdepth.bin` or `.npz` files of a folder, in name order.

    Protocol `cross-subject` is the official one: subjects 1-5 train, 6-10 test. `development` stays within the official training
    subjects, for choosing settings without looking at the test ones: 1-3 train, 4-5 test.
    """

    name = "msr_action3d"
    version = "2"
    protocols: ClassVar[tuple[str, ...]] = ("cross-subject", "development")
    holds = "files named a01_s01_e01_sdepth.bin (or .npz)"
    release = Release.of(
        "msr_action3d",
        files="the depth sequences (Depth.rar, 567 files aAA_sSS_eEE_sdepth.bin)",
    )
    Options = MSROptions
    options: MSROptions

    @property
    def sensor_at_origin(self) -> bool:
        """Points are given in the sensor's axes."""
        return True

    @property
    def action_names(self) -> tuple[str, ...]:
        """The 20 action classes, in the dataset's numbering less one."""
        return ACTION_NAMES

    def expected(self) -> Expected:
        """567 videos: 270 to train, 297 to test."""
        ids = [
            f"a{action:02d}_s{subject:02d}_e{take:02d}"
            for action, subject, take in product(range(1, 21), range(1, 11), (1, 2, 3))
            if take not in NEVER_RECORDED.get((action, subject), ())
        ]
        return Expected(num_sequences=567, splits={"cross-subject": {"train": 270, "test": 297}}, ids=ids)

    def notes(self) -> Sequence[str]:
        """Files that are not read because of their names."""
        others = [path.name for path in sorted(self.root.iterdir()) if _RESEMBLES.search(path.name) and not _FILE_NAME.fullmatch(path.name)]
        return (f"not read, as they are not called like {self.holds.removeprefix('files named ')}: {first_of(others)}",) if others else ()

    def scan(self) -> Iterator[SequenceInfo | DatasetError]:
        """The files of the folder; headers and sizes are checked, points are not read."""
        for path in sorted(self.root.iterdir()):
            match = _FILE_NAME.fullmatch(path.name)
            if match and match[4] == self.form:
                action, subject = int(match[1]), int(match[2])
                splits = {"cross-subject": "train" if subject <= 5 else "test"}
                if subject <= 5:
                    splits["development"] = "train" if subject <= 3 else "test"
                name = path.stem.removesuffix("_sdepth")
                try:
                    frames = read_header(path).frames if self.form == "bin" else open_object_array(path, NPZ_KEY).num_frames
                except DatasetError as error:
                    yield error.of(name)
                    continue
                yield SequenceInfo(id=name, num_frames=frames, action=action - 1, subject=subject, splits=splits)

    def read_frames(self, info: SequenceInfo, numbers: range) -> Iterator[Frame]:
        """Every pixel with a depth as a point, in the sensor's axes, depth units, in raster order."""
        path = self.root / f"{info.id}_sdepth.{self.form}"
        if self.form == "bin":
            yield from self._from_depth(path, info, numbers)
            return
        array = open_object_array(path, NPZ_KEY)
        self.check_length(info, array.num_frames, path)
        for number, published in enumerate(array.frames()):
            if number in numbers:
                points = change_pinhole(published, NPZ_PINHOLE, PINHOLE)
                _check_unit(path, number, points)
                _check_extent(path, number, float(np.abs(points).max(initial=0)))
                yield Frame(points=points)

    def _from_depth(self, path: Path, info: SequenceInfo, numbers: range) -> Iterator[Frame]:
        header = read_header(path)
        self.check_length(info, header.frames, path)
        for number in numbers:
            depth = read_depth(path, header, number)
            _check_extent(path, number, float(depth.max()))
            yield Frame(points=unproject(depth, PINHOLE))

    @cached_property
    def form(self) -> str:
        """`bin` or `npz`.

        Raises:
            SettingsError: the folder holds both, and the option does not choose.
        """
        if self.options.form != "auto":
            return self.options.form
        forms = {match[4] for path in self.root.iterdir() if (match := _FILE_NAME.fullmatch(path.name))}
        if len(forms) > 1:
            raise SettingsError(
                f"{self.root} holds .bin and .npz files", expected="one of them", hint="choose with `dataset.options` form=bin or npz"
            )
        return forms.pop() if forms else "bin"


def _check_unit(path: Path, frame: int, points: Float32[np.ndarray, "point 3"]) -> None:
    depth = float(np.median(points[:, 2])) if len(points) else LEAST_DEPTH
    if depth < LEAST_DEPTH:
        raise DatasetError(
            f"{path}: half of frame {frame} lies nearer than {depth:.3g} units",
            expected=f"depths in units of 5 mm, {LEAST_DEPTH:.0f} or more",
            hint="the points were scaled, to metres or by 300: take the published conversion, or the depth files",
        )


def _check_extent(path: Path, frame: int, extent: float) -> None:
    if not extent <= LARGEST_DEPTH:
        raise DatasetError(
            f"{path}: a depth or coordinate of {extent:g} units in frame {frame}",
            expected=f"at most {LARGEST_DEPTH}, 20 m",
            hint="the file is damaged; fetch it again",
        )


@dataclass(frozen=True)
class DepthHeader:
    """Frames and image size of a depth file, and whether its pixels take 4 bytes or (with player indices) 5."""

    frames: int
    width: int
    height: int
    bytes_per_pixel: int


def read_header(path: Path) -> DepthHeader:
    """The header of a depth file, checked against the size of the file.

    Raises:
        DatasetError: the header does not account for the bytes of the file.
    """

    def look() -> tuple[int, bytes]:
        with path.open("rb") as file:
            return path.stat().st_size, file.read(HEADER_BYTES)

    size, header = look_at(path, look, _AGAIN)
    if len(header) < HEADER_BYTES:
        raise DatasetError(
            f"{path}: the file ends inside its header, after {size} bytes",
            expected=f"at least {HEADER_BYTES} bytes",
            hint=_AGAIN,
        )
    frames, width, height = (int(value) for value in np.frombuffer(header, "<u4"))
    if width < height:
        raise DatasetError(
            f"{path}: the header promises images {width} pixels wide and {height} high",
            expected="frames, width, height: the dataset's own images have 320 x 240",
            hint="the file was written with width and height swapped; write or fetch it again",
        )
    pixels = frames * width * height
    for bytes_per_pixel in (4, 5):
        if pixels and size - HEADER_BYTES == pixels * bytes_per_pixel:
            return DepthHeader(frames, width, height, bytes_per_pixel)
    raise DatasetError(
        f"{path}: the header promises {frames} frames of {width} x {height} pixels, the file ends at byte {size}",
        expected=f"{HEADER_BYTES + pixels * 4} or {HEADER_BYTES + pixels * 5} bytes, and at least one frame",
        hint="the file is truncated or not an MSR-Action3D depth file; fetch it again, or move it out of the folder",
    )


def read_depth(path: Path, header: DepthHeader, frame: int) -> UInt32[np.ndarray, "row column"]:
    """Raw depth units of one frame, 0 for background; either body variant.

    Raises:
        DatasetError: the file is shorter than its header was when it was read.
    """
    row_bytes = header.width * header.bytes_per_pixel
    frame_bytes = header.height * row_bytes
    offset = HEADER_BYTES + frame * frame_bytes
    data = look_at(path, lambda: np.fromfile(path, np.uint8, count=frame_bytes, offset=offset), _AGAIN)
    if len(data) < frame_bytes:
        raise DatasetError(f"{path}: the file ends inside frame {frame}", hint="it changed meanwhile; run the same command again")
    rows = data.reshape(header.height, row_bytes)
    return np.ascontiguousarray(rows[:, : header.width * 4]).view("<u4")
