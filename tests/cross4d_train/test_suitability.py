import math

import numpy as np
import pytest
import torch

from cross4d_cache.store import open_cache
from cross4d_cache.types import SequenceInfo
from cross4d_train.clips import ClipSettings
from cross4d_train.encoders import build_encoder
from cross4d_train.loop import Pretraining, make_fabric
from cross4d_train.settings import EncoderSettings, RunSettings, TrainingSettings
from cross4d_train.suitability import count_neighbours, others_within, remarks
from tests.cross4d_train.conftest import write_store


def make_training(store, **training) -> Pretraining:
    settings = RunSettings(
        encoder=EncoderSettings(size="tiny"),
        clips=ClipSettings(num_frames=3, num_points=120, stride=1),
        training=TrainingSettings(**({"num_epochs": 1, "side": "all"} | training)),
    )
    return Pretraining(store, settings, make_fabric("cpu"))


def test_others_on_a_grid_by_hand() -> None:
    """3 x 3 x 1 points, 1 m apart, one of them twice. Within 1 m: corners have 2, sides 3, the centre 4, and each its double beside."""
    grid = torch.cartesian_prod(*(torch.arange(count, dtype=torch.float32) for count in (3, 3, 1)))
    points = torch.cat([grid, grid[:1]])
    assert others_within(points, 1.0).tolist() == [3, 4, 2, 4, 4, 3, 2, 3, 2, 3]
    assert others_within(points, 0.9).tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert others_within(points, math.sqrt(2)).tolist() == [4, 6, 3, 6, 9, 5, 3, 5, 3, 4]


def test_fewer_points_have_fewer_neighbours(store) -> None:
    cache = open_cache(store)
    number = len(cache.read_clip(0, np.array([cache.info(0).num_frames // 2]), targets=False).points)
    assert count_neighbours(cache, (0,), 10.0, 1000) == number - 1
    assert count_neighbours(cache, (0,), 10.0, 6) == pytest.approx((number - 1) * 6 / number)
    assert count_neighbours(cache, (0, 1, 2), 1e-6, 120) == 0


def test_what_suits_is_not_remarked_upon(store) -> None:
    assert list(remarks(make_training(store))) == []


def test_neighbourhoods_of_a_single_point_are_told(store) -> None:
    training = make_training(store)
    training.encoder.reach = 0.01
    [remark] = remarks(training)
    assert "no other within 0.01 m" in remark
    assert "point4d tiny (0.2 m)" in remark
    training.encoder.reach = None
    assert list(remarks(training)) == []


def test_long_sequences_are_told(tmp_path) -> None:
    """Two sequences of 40 frames, clips of 3: an epoch sees 6 of 80 frames, with 2 clips of each 12; 14 clips of each see all."""
    long = write_store(tmp_path / "long.zarr", [SequenceInfo(id=name, num_frames=40) for name in "ab"], labels=False, protocols=())
    [remark] = remarks(make_training(long))
    assert "6 of 80 frames" in remark
    assert "`training.clips_per_sequence` 14 " in remark
    assert list(remarks(make_training(long, clips_per_sequence=3))) == []


@pytest.mark.parametrize(("name", "size", "reach"), [("point4d", "paper", 0.1), ("p4transformer", "ntu", 0.1), ("pstnet", "tiny", 0.5)])
def test_reach_is_metres(name: str, size: str, reach: float) -> None:
    assert build_encoder(name, size).reach == pytest.approx(reach)
