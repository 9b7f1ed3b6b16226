"""MSR-Action3D (Li et al. 2010): depth sequences of 20 actions by 10 subjects, in the official `.bin` files.

File: three little-endian uint32 (frames, width, height), then the frames. Either width x height uint32 depths a frame, or per row
width int32 depths followed by width bytes of player index. One depth unit is 5 mm, 0 is background; the sensor is a pinhole of
focal length 285.62 px with its centre at (160, 120) of 320 x 240 pixels (measured from the dataset's skeletons).
"""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import UInt32

from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.errors import DatasetError
from cross4d_cache.types import PointCloudSequence, SequenceInfo

METRES_PER_UNIT = 0.005
FOCAL = 285.62
CENTRE = (160.0, 120.0)
HEADER_BYTES = 12
LARGEST_DEPTH = 4000
"""Units; the dataset's own depths end at 649."""
_FILE_NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_sdepth\.bin")

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


class MSRAction3D(Dataset):
    """The `aAA_sSS_eEE_sdepth.bin` files of a folder, in name order.

    Protocol `cross-subject` is the official one: subjects 1-5 train, 6-10 test. `development` stays within the official training
    subjects, for choosing settings without looking at the test ones: 1-3 train, 4-5 test.
    """

    name = "msr_action3d"
    version = "1"
    protocols: ClassVar[tuple[str, ...]] = ("cross-subject", "development")
    needs_root = True

    @property
    def action_names(self) -> tuple[str, ...]:
        """The 20 action classes, in the dataset's numbering less one."""
        return ACTION_NAMES

    def sequences(self) -> Sequence[SequenceInfo]:
        """The files of the folder; headers and sizes are checked, pixels are not read."""
        return self._sequences

    @cached_property
    def _sequences(self) -> tuple[SequenceInfo, ...]:
        assert self.root is not None
        files = sorted(path for path in self.root.iterdir() if _FILE_NAME.fullmatch(path.name))
        if not files:
            raise DatasetError(
                f"{self.root} holds no MSR-Action3D sequences",
                expected="files named a01_s01_e01_sdepth.bin",
                hint="pass the folder of the unpacked depth files with --data",
            )
        return tuple(self._info(path) for path in files)

    def _info(self, path: Path) -> SequenceInfo:
        match = _FILE_NAME.fullmatch(path.name)
        assert match is not None
        action, subject, _ = (int(group) for group in match.groups())
        splits = {"cross-subject": "train" if subject <= 5 else "test"}
        if subject <= 5:
            splits["development"] = "train" if subject <= 3 else "test"
        frames, _, _, _ = read_header(path)
        return SequenceInfo(id=path.name.removesuffix("_sdepth.bin"), num_frames=frames, action=action - 1, subject=subject, splits=splits)

    def read(self, info: SequenceInfo) -> PointCloudSequence:
        """Every pixel with a depth as a point, in the sensor's axes (x right, y down, z forward), metres, in raster order."""
        assert self.root is not None
        path = self.root / f"{info.id}_sdepth.bin"
        depth = read_depth(path)
        if depth.max() > LARGEST_DEPTH:
            raise DatasetError(
                f"{path}: a depth of {depth.max()} units in frame {int(depth.max(axis=(1, 2)).argmax())}",
                expected=f"at most {LARGEST_DEPTH}, {LARGEST_DEPTH * METRES_PER_UNIT:.0f} m",
                hint="the file is damaged; fetch it again",
            )
        frame, row, column = np.nonzero(depth)
        z = depth[frame, row, column].astype(np.float32) * np.float32(METRES_PER_UNIT)
        x = (column.astype(np.float32) - np.float32(CENTRE[0])) / np.float32(FOCAL) * z
        y = (row.astype(np.float32) - np.float32(CENTRE[1])) / np.float32(FOCAL) * z
        counts = np.bincount(frame, minlength=len(depth))
        return PointCloudSequence(
            info=info,
            points=np.stack([x, y, z], axis=1),
            point_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        )


def read_header(path: Path) -> tuple[int, int, int, int]:
    """Frames, width, height and bytes per pixel (4 or 5, by the size of the file).

    Raises:
        DatasetError: the header does not account for the bytes of the file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}", hint="fetch it again, or move it out of the folder") from None
    if len(header) < HEADER_BYTES:
        raise DatasetError(
            f"{path}: the file ends inside its header, after {size} bytes",
            expected=f"at least {HEADER_BYTES} bytes",
            hint="fetch it again, or move it out of the folder",
        )
    frames, width, height = (int(value) for value in np.frombuffer(header, "<u4"))
    pixels = frames * width * height
    for bytes_per_pixel in (4, 5):
        if pixels and size - HEADER_BYTES == pixels * bytes_per_pixel:
            return frames, width, height, bytes_per_pixel
    raise DatasetError(
        f"{path}: the header promises {frames} frames of {width} x {height} pixels, the file has {size} bytes",
        expected=f"{HEADER_BYTES + pixels * 4} or {HEADER_BYTES + pixels * 5} bytes, and at least one frame",
        hint="the file is truncated or not an MSR-Action3D depth file; fetch it again, or move it out of the folder",
    )


def read_depth(path: Path) -> UInt32[np.ndarray, "frame row column"]:
    """Raw depth units of a whole file, 0 for background; either body variant.

    Raises:
        DatasetError: the file is damaged.
    """
    frames, width, height, bytes_per_pixel = read_header(path)
    if bytes_per_pixel == 4:
        depth = np.fromfile(path, "<u4", offset=HEADER_BYTES)
        return depth.reshape(frames, height, width)
    rows = np.fromfile(path, np.uint8, offset=HEADER_BYTES).reshape(frames, height, width * 5)
    return np.ascontiguousarray(rows[:, :, : width * 4]).view("<u4").reshape(frames, height, width)
