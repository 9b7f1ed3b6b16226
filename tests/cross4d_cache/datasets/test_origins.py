"""Coordinates far from 0: an origin is subtracted in float64, and what float32 cannot hold is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.build.engines.local import Build
from cross4d_cache.build.plan import plan_build
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.datasets import open_dataset
from cross4d_cache.datasets.folder.origins import find
from cross4d_cache.errors import DatasetError, SettingsError
from cross4d_cache.store import Cache, open_cache
from cross4d_cache.teachers import load_teacher

MAP = np.array([497_123.25, 5_400_123.5, 310.0])


def body(frame: int) -> np.ndarray:
    """Sixty-fourths of a metre, 1.5 m high and 2.5 m away: exact in float32, and in float64 anywhere on a map."""
    rng = np.random.default_rng(frame)
    return rng.integers([-16, -48, 150], [17, 49, 171], (600, 3)) / 64


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes two frames of a body about some place, in some unit and type."""

    def put(place: np.ndarray, unit: float = 1.0, dtype: str = "f8") -> Path:
        folder = tmp_path / f"at_{place[0]:g}_{unit}_{dtype}"
        (folder / "body").mkdir(parents=True)
        for frame in range(2):
            np.save(folder / "body" / f"{frame}.npy", ((body(frame) + place) / unit).astype(dtype))
        return folder

    return put


def points(folder: Path, **options: object) -> list[np.ndarray]:
    dataset = open_dataset("folder", folder, options)
    return [frame.points for frame in dataset.frames(dataset.listing.sequences[0])]


@pytest.mark.parametrize("place", [MAP, np.array([90_000.0, 5_000, 310]), np.array([1e4, 1e4, 1e4])])
def test_auto_gives_the_points_about_a_multiple_of_100_m(write: Callable[..., Path], place: np.ndarray) -> None:
    moved = points(write(place), origin="auto")
    middle = np.median(body(0) + place, axis=0)
    expected = np.round(middle / 100) * 100
    for number, frame in enumerate(moved):
        np.testing.assert_array_equal(frame, (body(number) + place - expected).astype(np.float32))


def test_an_origin_is_in_the_unit_and_axes_of_the_files(write: Callable[..., Path]) -> None:
    millimetres = write(MAP, unit=0.001)
    x, y, z = np.float32(points(millimetres, metres_per_unit=0.001, axes="x,-z,y", origin="497123250,5400123500,310000")[0].T)
    expected = body(0)
    np.testing.assert_allclose(np.stack([x, z, -y], axis=1), expected, atol=1e-6)
    [first, _] = points(millimetres, metres_per_unit=0.001, origin="auto")
    np.testing.assert_allclose(first, body(0) + MAP - [497_100, 5_400_100, 300], atol=1e-5)


def test_a_body_near_0_stays_where_it_is(write: Callable[..., Path]) -> None:
    near = write(np.array([600.0, -300, 700]))
    for plain, auto in zip(points(near), points(near, origin="auto"), strict=True):
        assert plain.tobytes() == auto.tobytes()
    assert find(np.full((3, 3), np.nan), 1.0) is None
    assert find(np.array([[1001.0, 0, 0]]), 1.0) == (1000.0, 0.0, 0.0)
    assert find(np.array([[1001.0, 0, 0]]), 0.3) is None


def build(folder: Path, out: Path, **options: object) -> Cache:
    dataset, teacher = open_dataset("folder", folder, options), load_teacher("tiny")
    for _ in Build(dataset, teacher, plan_build(dataset, teacher, BuildSettings()), out).run():
        pass
    return open_cache(out)


def test_a_store_of_map_coordinates_says_what_was_subtracted(write: Callable[..., Path], tmp_path: Path) -> None:
    store = build(write(MAP), tmp_path / "map.zarr", origin="auto")
    assert store.info(0).origin == (497_100.0, 5_400_100.0, 300.0)
    assert store.manifest.dataset.options["origin"] == "auto"
    clip = store.read_clip(0, np.arange(1))
    found = np.sort(clip.points.astype(np.float64) + store.info(0).origin, axis=0)
    np.testing.assert_allclose(found, np.sort(np.unique(body(0), axis=0) + MAP, axis=0), atol=1e-4)


def test_the_place_on_the_map_changes_no_target(write: Callable[..., Path], tmp_path: Path) -> None:
    there = build(write(MAP), tmp_path / "there.zarr", origin=",".join(map(str, MAP))).read_clip(0, np.arange(2))
    here = build(write(np.zeros(3)), tmp_path / "here.zarr").read_clip(0, np.arange(2))
    for name in ("points", "rows", "patches", "features"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))
    assert here.info.origin is None


@pytest.mark.parametrize(
    ("place", "dtype", "options", "words"),
    [
        (MAP, "f8", {}, "origin=auto"),
        (MAP, "f8", {"metres_per_unit": 0.001}, "origin=auto"),
        (np.array([90_000.0, 5_000, 310]), "f8", {}, "origin=auto"),
        (np.array([90_000.0, 5_000, 310]), "f8", {"metres_per_unit": 0.001}, "origin=auto"),
        (MAP, "f4", {"origin": "auto"}, "float64"),
    ],
)
def test_what_float32_cannot_hold_is_refused_with_the_way_out(
    write: Callable[..., Path], place: np.ndarray, dtype: str, options: dict[str, object], words: str
) -> None:
    folder = write(place, dtype=dtype)
    with pytest.raises(DatasetError, match=words):
        points(folder, **options)


def test_the_way_out_is_told_by_a_build_too(write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"`dataset\.options` origin=auto"):
        build(write(MAP), tmp_path / "map.zarr")


@pytest.mark.parametrize("origin", ["here", "1,2", "1,2,nan", "1,2,3,4", "1,2,1e999", ""])
def test_what_is_no_origin_is_refused(write: Callable[..., Path], origin: str) -> None:
    with pytest.raises(SettingsError, match="origin"):
        open_dataset("folder", write(MAP), {"origin": origin})
