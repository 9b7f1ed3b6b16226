"""Extents: worked out by hand, and printed by every command that meets the data, with a warning where they are hardly meant so."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cross4d_cache.build.extent import Extent, SequenceExtent
from cross4d_cache.cli import app
from cross4d_cache.types import RenderSettings

BOX = np.stack(np.meshgrid(np.linspace(-0.25, 0.25, 11), np.linspace(-1, 1, 21), np.linspace(2, 2.25, 6)), axis=-1).reshape(-1, 3)
"""1,386 points: 0.5 m wide, 2 m high, 0.25 m deep."""


def of(*frames: np.ndarray) -> Extent:
    extent = Extent.of([SequenceExtent.measure([frame.astype(np.float32) for frame in frames])])
    assert extent is not None
    return extent


def test_by_hand() -> None:
    """Two frames: one of the box twice over, one of the box, two zeros and a stray."""
    extent = of(np.tile(BOX, (2, 1)), np.concatenate([BOX, np.zeros((2, 3)), [[0, 0, 900]]]))
    total = 3 * len(BOX) + 3
    assert (extent.right, extent.down, extent.forward) == (0.5, 2.0, 2.25)  # the zeros are no strays: forward from 0 to 2.25
    assert extent.tallest_axis == "forward"
    assert extent.points_a_frame == {"least": len(BOX) + 3, "median": (3 * len(BOX) + 3) // 2, "most": 2 * len(BOX)}
    assert extent.zeros == pytest.approx(2 / total)
    assert extent.repeats == pytest.approx((len(BOX) + 1) / total)
    assert extent.strays == pytest.approx(1 / total)
    assert [warning[:21] for warning in extent.warnings()] == ["some points lie far o"]
    assert extent.notes() == []


def test_patches_are_those_with_a_point() -> None:
    """One frame of one point, and one of four that span the image: a patch, and four."""
    corners = np.array([[-1, -1, 5], [1, -1, 5], [-1, 1, 5], [1, 1, 5]])
    [one, four] = (SequenceExtent.measure([points.astype(np.float32)]).patches for points in (corners[:1], corners))
    assert (one, four) == (1, 4)
    both = SequenceExtent.measure([corners[:1].astype(np.float32), corners.astype(np.float32)], RenderSettings(image_size=224), 14)
    assert both.patches == 2.5


@pytest.mark.parametrize(
    ("points", "warning", "note"),
    [
        (BOX, None, None),
        (BOX * 1000, "metres_per_unit", None),
        (BOX / 1000, "metres_per_unit", None),
        (BOX[:, [1, 2, 0]], None, "axes"),
        (BOX[:20], "nearly empty", None),
        (np.concatenate([BOX, np.zeros((300, 3))]), "drop_zeros", None),
        (np.concatenate([BOX, [[0, 0, 500]]]), "box", None),
    ],
)
def test_what_is_hardly_meant_so_is_said(points: np.ndarray, warning: str | None, note: str | None) -> None:
    extent = of(points)
    assert warning is None or any(warning in line for line in extent.warnings())
    assert (warning is None) == (not extent.warnings())
    assert note is None or note in extent.notes()[0]
    assert extent.notes(spherical=True) == []


def test_nothing_has_no_extent() -> None:
    assert Extent.of([]) is None


@pytest.fixture
def millimetres(tmp_path: Path) -> Path:
    (tmp_path / "data" / "box").mkdir(parents=True)
    for frame in range(2):
        np.save(tmp_path / "data" / "box" / f"{frame}.npy", (BOX * 1000).astype(np.float32))
    return tmp_path / "data"


def test_check_data_build_and_info_print_it(millimetres: Path, tmp_path: Path) -> None:
    """Of millimetres that are read as metres: 2,000 m tall."""
    out, source = str(tmp_path / "store.zarr"), ["--dataset", "folder", "--data", str(millimetres)]
    checked = CliRunner().invoke(app, ["check-data", *source])
    built = CliRunner().invoke(app, ["build", *source, "--out", out, "--points", "500", "--device", "cpu"])
    shown = CliRunner().invoke(app, ["info", out])
    for result, text in ((checked, checked.stdout), (built, built.stderr), (shown, shown.stdout)):
        assert result.exit_code == 0, result.output
        for words in ("reader options: ", "metres_per_unit=1.0", "e+03 m down", "WARNING: subjects are", "points a frame: least"):
            assert words in text
    for command in (["check-data", *source], ["info", out]):
        record = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
        assert record["extent"]["down"] == pytest.approx(2000, rel=0.01)
        assert record["extent"]["warnings"]
    right = CliRunner().invoke(app, ["check-data", *source, "--option", "metres_per_unit=0.001"]).stdout
    assert "WARNING" not in right
    assert "2 m down" in right


def test_all_sequences_are_looked_at_where_asked(tmp_path: Path) -> None:
    """Of ten sequences the second to last is far wider; eight, evenly spread, leave it out."""
    data, out = tmp_path / "data", str(tmp_path / "store.zarr")
    for number in range(10):
        (data / f"s{number}").mkdir(parents=True)
        np.save(data / f"s{number}" / "0.npy", (BOX * (5 if number == 8 else 1)).astype(np.float32))
    source = ["--dataset", "folder", "--data", str(data)]
    assert CliRunner().invoke(app, ["build", *source, "--out", out, "--points", "500", "--device", "cpu"]).exit_code == 0
    for command in (["check-data", *source], ["info", out]):
        few, every = (json.loads(CliRunner().invoke(app, [*command, *more, "--json"]).stdout)["extent"] for more in ([], ["--read-all"]))
        assert (few["sequences"], every["sequences"]) == (8, 10)
        assert every["largest"] == pytest.approx(5 * few["largest"], rel=0.01)
