"""Depth images: PNG files of the sensors, and the way from pixels to points.

Damage is told by the byte at which it begins: a PNG file is a chain of chunks, each with a length and a checksum
(https://www.w3.org/TR/png-3/), which is walked before any pixel is decoded.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Integer, Shaped

from cross4d_cache.datasets.looking import look_at
from cross4d_cache.errors import DatasetError
from cross4d_cache.installed import needed

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MODES = {"I;16": np.uint16, "I": np.int32, "L": np.uint8, "RGB": np.uint8}
_AGAIN = "fetch the file again, or move its sequence out of the folder"


@dataclass(frozen=True)
class Pinhole:
    """A sensor's pinhole: focal lengths and centre, pixels; a pixel's own coordinate is its column or row number."""

    fx: float
    fy: float
    cx: float
    cy: float


def read_png(path: Path, width: int, height: int, mode: str = "I;16") -> Shaped[np.ndarray, "row column ..."]:
    """The pixels of a PNG file; `mode` is Pillow's word: `I;16` for 16-bit grey, `L` for 8-bit grey, `RGB` for colours of any kind.

    Raises:
        DatasetError: the file is missing, damaged (naming the byte), or of another size or kind.
        SettingsError: Pillow is not installed.
    """
    with needed("Pillow", "decodes PNG files"):
        from PIL import Image
    data = look_at(path, path.read_bytes, _AGAIN)
    check_chunks(path, data, width, height)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            found = "I;16" if image.mode == "I" else image.mode  # Pillow before 11.3 widens 16-bit grey
            if found not in ("RGB", "RGBA", "P") if mode == "RGB" else found != mode:
                raise DatasetError(f"{path}: pixels of kind {image.mode}", expected=mode, hint="this is not the file the dataset publishes")
            pixels = np.asarray(image.convert("RGB") if mode == "RGB" else image)
    except (OSError, ValueError, SyntaxError, LookupError, TypeError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path}: its pixels cannot be decoded ({error})", hint=_AGAIN) from None
    return pixels.astype(_MODES[mode])


def png_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG file, from its header alone.

    Raises:
        DatasetError: the file cannot be read, or is not a PNG file.
    """
    head = look_at(path, lambda: _first_bytes(path, 24), _AGAIN)
    if len(head) < 24 or head[:8] != SIGNATURE or head[12:16] != b"IHDR":
        raise DatasetError(f"{path}: not a PNG file from byte 0 on", expected="a PNG depth image", hint=_AGAIN)
    width, height = struct.unpack_from(">II", head, 16)
    return width, height


def _first_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def check_chunks(path: Path, data: bytes, width: int, height: int) -> None:
    """Walk the chunks of a PNG file without decoding pixels.

    Raises:
        DatasetError: not a PNG file, another size than `width` x `height`, or a chunk that is cut off or fails its checksum.
    """
    if data[:8] != SIGNATURE:
        raise DatasetError(f"{path}: not a PNG file from byte 0 on", expected="a PNG depth image", hint=_AGAIN)
    place, kind = 8, b""
    while kind != b"IEND":
        if len(data) < place + 12:
            raise DatasetError(f"{path}: the file ends inside a chunk, at byte {len(data)}", expected="a chunk named IEND", hint=_AGAIN)
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if len(data) < end:
            raise DatasetError(f"{path}: the file ends at byte {len(data)}, inside a chunk that goes to {end}", hint=_AGAIN)
        if zlib.crc32(memoryview(data)[place + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise DatasetError(f"{path}: damaged between byte {place} and byte {end}: the checksum of a chunk does not fit", hint=_AGAIN)
        if place == 8:
            found = struct.unpack_from(">4sII", data, place + 4)[:3] if length >= 8 else (kind, 0, 0)
            if found != (b"IHDR", width, height):
                raise DatasetError(
                    f"{path}: an image of {found[1]} x {found[2]} pixels",
                    expected=f"{width} x {height}",
                    hint="this is not the file the dataset publishes",
                )
        place = end


def unproject(
    depth: Integer[np.ndarray, "row column"], pinhole: Pinhole, keep: Bool[np.ndarray, "row column"] | None = None
) -> Float32[np.ndarray, "point 3"]:
    """Every pixel with a depth (and in `keep`) as a point in the sensor's axes (x right, y down, z forward), in raster order.

    Coordinates are in the unit of the depth.
    """
    pixel = np.flatnonzero(depth != 0 if keep is None else (depth != 0) & keep)
    row, column = np.divmod(pixel, depth.shape[1])
    points = np.empty((len(pixel), 3), np.float32)
    points[:, 2] = z = depth.ravel()[pixel].astype(np.float32)
    points[:, 0] = (column.astype(np.float32) - np.float32(pinhole.cx)) / np.float32(pinhole.fx) * z
    points[:, 1] = (row.astype(np.float32) - np.float32(pinhole.cy)) / np.float32(pinhole.fy) * z
    return points


def change_pinhole(points: Shaped[np.ndarray, "point 3"], used: Pinhole, true: Pinhole) -> Float32[np.ndarray, "point 3"]:
    """The points that the same pixels and depths give with the true intrinsics; any unit.

    Computed in float64: the pixel of a point, `used.fx * x / z + used.cx`, is put into `unproject`'s formula, and z cancels out.
    """
    with np.errstate(all="ignore"):  # damaged files hold any number
        x, y, z = points.astype(np.float64).T
        x = (used.fx * x + (used.cx - true.cx) * z) / true.fx
        y = (used.fy * y + (used.cy - true.cy) * z) / true.fy
        return np.stack([x, y, z], axis=1).astype(np.float32)
