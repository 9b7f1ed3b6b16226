"""Depth images: pixels come back, points lie where the pinhole says, damage is told by its byte."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cross4d_cache.datasets.depth_image import Pinhole, png_size, read_png, unproject
from cross4d_cache.errors import DatasetError
from tests.cross4d_cache.datasets.examples.deforming_things4d import png16

DEPTH = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "depth.png").write_bytes(png16(DEPTH))
    return tmp_path / "depth.png"


def test_16_bits_come_back(image: Path) -> None:
    np.testing.assert_array_equal(read_png(image, 4, 3), DEPTH)
    assert png_size(image) == (4, 3)


def test_colours_come_back_from_any_kind_of_png(tmp_path: Path) -> None:
    colours = np.array([[[128, 0, 0], [0, 128, 0]], [[0, 0, 0], [64, 0, 128]]], np.uint8)
    picture = Image.fromarray(colours)
    for name, kind in (
        ("rgb", picture),
        ("rgba", picture.convert("RGBA")),
        ("palette", picture.convert("P", palette=Image.Palette.ADAPTIVE)),
    ):
        kind.save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(read_png(tmp_path / f"{name}.png", 2, 2, "RGB"), colours, err_msg=name)


def test_other_kinds_and_sizes_are_refused(image: Path) -> None:
    with pytest.raises(DatasetError, match=r"depth\.png: pixels of kind I;16"):
        read_png(image, 4, 3, "RGB")
    with pytest.raises(DatasetError, match="4 x 3 pixels"):
        read_png(image, 3, 4)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-5], "ends inside a chunk, at byte"),
        (lambda data: data[:45] + bytes([data[45] ^ 1]) + data[46:], "between byte 33 and byte"),
        (lambda data: b"GIF89a" + data[6:], "byte 0"),
        (lambda data: data[:8] + struct.pack(">I", 2**31) + data[12:], "inside a chunk that goes to 2147483668"),
        (lambda data: b"", "byte 0"),
    ],
)
def test_damage_is_told_by_its_byte(image: Path, damage, words: str) -> None:  # type: ignore[no-untyped-def]
    image.write_bytes(damage(image.read_bytes()))
    with pytest.raises(DatasetError, match=words):
        read_png(image, 4, 3)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), focal=st.floats(20, 500), centre=st.floats(-5, 40), masked=st.booleans())
def test_points_project_back_to_their_pixels(seed: int, focal: float, centre: float, masked: bool) -> None:
    """Each pixel with a depth, in raster order, is where `u = fx x / z + cx`, `v = fy y / z + cy` say."""
    rng = np.random.default_rng(seed)
    depth = np.where(rng.random((7, 9)) < 0.5, rng.integers(1, 60_000, (7, 9)), 0).astype(np.uint16)
    keep = rng.random((7, 9)) < 0.5 if masked else None
    pinhole = Pinhole(focal, 1.1 * focal, centre, centre / 2)
    points = unproject(depth, pinhole, keep)
    expected = [(u, v) for v in range(7) for u in range(9) if depth[v, u] and (keep is None or keep[v, u])]
    assert len(points) == len(expected)
    for (x, y, z), (u, v) in zip(points.astype(np.float64), expected, strict=True):
        assert z == depth[v, u]
        assert pinhole.fx * x / z + pinhole.cx == pytest.approx(u, abs=1e-3)
        assert pinhole.fy * y / z + pinhole.cy == pytest.approx(v, abs=1e-3)


def test_a_chunk_that_the_decoder_trips_over_is_damage(image: Path) -> None:
    """A colour profile of a single byte behind the pixels, its checksum right."""
    data = image.read_bytes()
    chunk = struct.pack(">I", 1) + b"iCCP\0" + struct.pack(">I", zlib.crc32(b"iCCP\0"))
    image.write_bytes(data[:-12] + chunk + data[-12:])
    with pytest.raises(DatasetError, match=r"depth\.png"):
        read_png(image, 4, 3)
