"""The rendered form: depth images of an animation from one camera that stands still.

`depth/NNNN.png`, 16-bit, 1/1000 m, 0 where nothing was hit; `cam_intr.txt`, the 3 x 3 intrinsics, pixels; `cam_extr.txt`, 4 x 4 from
camera (OpenCV axes) to world (z up), metres (rabbityl/DeformingThings4D, code/README.md).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from cross4d_cache.datasets.depth_image import Pinhole, png_size, read_png, unproject
from cross4d_cache.datasets.looking import look_at
from cross4d_cache.errors import DatasetError

METRES_PER_STEP = 0.001
LARGEST_SIDE = 4096
"""Pixels; the published renders have 600 x 500."""
CAMERA_FILES = ("cam_intr.txt", "cam_extr.txt")
_AGAIN = "fetch the file again, or move its folder out of the way"


@dataclass(frozen=True)
class RenderedFolder:
    """The images of one animation, in name order, with the camera that took them."""

    images: tuple[Path, ...]
    width: int
    height: int
    pinhole: Pinhole
    camera_to_world: Float64[np.ndarray, "4 4"]

    def frame(self, number: int) -> Float32[np.ndarray, "point 3"]:
        """Every pixel with a depth, in the world of the render, metres.

        Raises:
            DatasetError: the image is damaged.
        """
        depth = read_png(self.images[number], self.width, self.height)
        points = unproject(depth, self.pinhole) * np.float32(METRES_PER_STEP)
        rotation, place = self.camera_to_world[:3, :3].astype(np.float32), self.camera_to_world[:3, 3].astype(np.float32)
        world: Float32[np.ndarray, "point 3"] = points @ rotation.T + place
        return world


def open_rendered(folder: Path) -> RenderedFolder:
    """The camera and the listing of a folder; of the images, only the size of the first is read.

    Raises:
        DatasetError: a camera file or all images are missing or damaged.
    """
    images = tuple(sorted((folder / "depth").glob("[0-9]*.png")))
    if not images:
        raise DatasetError(f"{folder / 'depth'} holds no images", expected="files named 0001.png", hint=_AGAIN)
    intrinsics_file, pose_file = (folder / name for name in CAMERA_FILES)
    intrinsics = _matrix(intrinsics_file, 3)
    pinhole = Pinhole(*(float(intrinsics[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2))))
    if min(pinhole.fx, pinhole.fy) < 1:
        raise DatasetError(f"{intrinsics_file}: focal lengths {pinhole.fx} and {pinhole.fy}", expected="at least a pixel", hint=_AGAIN)
    pose = _matrix(pose_file, 4)
    rotation = pose[:3, :3]
    mirrors = np.linalg.det(rotation) < 0
    if mirrors or np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.abs(pose[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise DatasetError(f"{pose_file}: not a rigid motion", expected="a rotation and a translation, 4 x 4", hint=_AGAIN)
    width, height = png_size(images[0])
    if max(width, height) > LARGEST_SIDE:
        raise DatasetError(f"{images[0]}: an image of {width} x {height} pixels", expected=f"at most {LARGEST_SIDE} a side", hint=_AGAIN)
    return RenderedFolder(images, width, height, pinhole, pose)


def _matrix(path: Path, side: int) -> Float64[np.ndarray, "side side"]:
    def look() -> list[bytes]:
        with path.open("rb") as file:
            return file.read(10_000).split()

    try:
        numbers = np.array([float(word) for word in look_at(path, look, _AGAIN)])
    except ValueError as error:
        raise DatasetError(f"{path}: {error}", expected=f"{side} x {side} numbers", hint=_AGAIN) from None
    if len(numbers) != side * side or not (np.abs(numbers) < 1e6).all():
        raise DatasetError(f"{path}: {len(numbers)} numbers", expected=f"{side} x {side} finite numbers", hint=_AGAIN)
    return numbers.reshape(side, side)
