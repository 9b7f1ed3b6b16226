"""`drop_zeros`, `range` and `box`: what a reader leaves out."""

from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.datasets import open_dataset
from cross4d_cache.errors import DatasetError, SettingsError

POINTS = np.float32([[0, 0, 0], [0, 0, 1], [3, 0, 4], [0, -0.0, 0], [0, 2, 0], [6, 0, 8]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data" / "only").mkdir(parents=True)
    np.save(tmp_path / "data" / "only" / "0.npy", POINTS)
    return tmp_path / "data"


def kept(folder: Path, **options: object) -> list[int]:
    """Numbers of the points that are left, told by their ids."""
    dataset = open_dataset("folder", folder, {"tracks": True, **options})
    [frame] = dataset.frames(dataset.listing.sequences[0])
    assert frame.surface_ids is not None
    return frame.surface_ids.tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"drop_zeros": "true"}, [1, 2, 4, 5]),
        ({"range": "1,5"}, [1, 2, 4]),
        ({"range": "0,0.5"}, [0, 3]),
        ({"range": "1,5", "metres_per_unit": 0.5}, [2, 4, 5]),
        ({"box": "-1,1,-1,1,0.5,9"}, [1]),
        ({"box": "-1,1,-1,1,1.5,9", "axes": "x,z,y"}, [4]),
        ({"box": "-9,9,-9,9,0,4", "range": "2,9", "drop_zeros": "true"}, [2, 4]),
        ({"origin": "0,0,1"}, [0, 1, 2, 3, 4, 5]),
        ({"origin": "0,0,1", "drop_zeros": "true"}, [1, 2, 4, 5]),
        ({"origin": "0,0,1", "range": "0,1"}, [0, 1, 3]),
    ],
)
def test_what_is_left(folder: Path, options: dict[str, object], expected: list[int]) -> None:
    assert kept(folder, **options) == expected


@pytest.mark.parametrize("options", [{"range": "100,200"}, {"box": "50,60,0,1,0,1"}, {"range": "0,0.5", "drop_zeros": "true"}])
def test_options_that_leave_nothing_are_named(folder: Path, options: dict[str, object]) -> None:
    with pytest.raises(DatasetError, match="range and box leave no point of frame 0"):
        kept(folder, **options)


@pytest.mark.parametrize(
    "options", [{"range": "5"}, {"range": "5,1"}, {"range": "-1,5"}, {"box": "1,2,3"}, {"box": "1,0,0,1,0,1"}, {"box": "a"}]
)
def test_what_is_no_range_or_box_is_refused(folder: Path, options: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(options))):
        open_dataset("folder", folder, options)


def test_options_that_leave_nothing_out_are_not_recorded(folder: Path) -> None:
    assert not {"drop_zeros", "range", "box", "origin"} & open_dataset("folder", folder).options.model_dump(mode="json").keys()
    assert open_dataset("folder", folder, {"range": "1,5"}).options.model_dump(mode="json")["range"] == "1,5"
