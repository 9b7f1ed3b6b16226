"""What stands on the axes of the picture of a store."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cross4d_cache.report import picture
from cross4d_cache.store import Cache, open_cache
from tests.cross4d_cache.store.store_examples import make_part, write_store


@pytest.fixture
def axes() -> Axes:
    return Figure().subplots()


def store(path: Path, *lengths: int) -> Cache:
    return open_cache(write_store(path / "store.zarr", [make_part([[2] * length for length in lengths])]))


def test_one_length_is_one_bar_of_a_frame(tmp_path: Path, axes: Axes) -> None:
    picture._lengths(store(tmp_path, 20, 20, 20), axes)
    heights = [bar.get_height() for bar in axes.patches]  # type: ignore[attr-defined]
    assert heights == [3]
    assert axes.patches[0].get_width() <= 1  # type: ignore[attr-defined]
    assert axes.get_title() == "length of sequences: 20 frames each"
    assert axes.get_xlim() == (18, 22)
    assert all(tick == round(tick) for tick in axes.get_xticks())


def test_lengths_far_apart_are_counted_in_bins_of_whole_frames(tmp_path: Path, axes: Axes) -> None:
    lengths = [1, 2, 40, 100]
    picture._lengths(store(tmp_path, *lengths), axes)
    edges = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]  # type: ignore[attr-defined]
    heights = np.array([bar.get_height() for bar in axes.patches])  # type: ignore[attr-defined]
    assert heights.sum() == len(lengths)
    assert np.diff(edges).round(6).tolist() == [4] * (len(edges) - 1)


def test_actions_have_names(tmp_path: Path, axes: Axes) -> None:
    cache = store(tmp_path, 2, 3, 4)
    picture._actions(cache, axes)
    names = cache.manifest.dataset.action_names
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown[:2] == list(names[:2]), "the others of these sequences have none"
    assert max(bar.get_height() for bar in axes.patches) < 1, "one action alone does not fill the picture"  # type: ignore[attr-defined]
    assert axes.get_ylim()[0] - axes.get_ylim()[1] >= picture.LEAST_ROWS
    assert picture._name_of(-1, names) == "no action"
    assert picture._name_of(99, names) == "action 99"
    assert len(picture._name_of(0, ["x" * 200])) == picture.MOST_LETTERS


def test_one_part_is_no_giant_bar(tmp_path: Path, axes: Axes) -> None:
    cache = store(tmp_path, 2, 3)
    picture._coverage(cache, axes)
    [bar] = axes.patches
    left, right = axes.get_xlim()
    assert bar.get_width() < 0.25 * (right - left)  # type: ignore[attr-defined]
    assert axes.get_xticks().tolist() == [0]
    part = cache.manifest.parts[0]
    assert [text.get_text() for text in axes.texts] == [f"{part.num_visible / part.num_points:.0%}"]
