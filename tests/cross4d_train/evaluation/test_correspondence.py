import pytest
import torch

from cross4d_cache.errors import SettingsError
from cross4d_train.clips import ClipSettings
from cross4d_train.data import NO_SURFACE, ClipDataset
from cross4d_train.encoders import build_encoder
from cross4d_train.evaluation.correspondence import Correspondence, CorrespondenceSettings, match_frames
from cross4d_train.evaluation.evaluation import Place
from cross4d_train.evaluation.source import EncoderSource
from cross4d_train.settings import EncoderSettings
from tests.cross4d_train.conftest import make_infos, write_store


def make_frames(seed=0, count=60):
    """A rotated copy in another order; features that tell every point."""
    generator = torch.Generator().manual_seed(seed)
    before = torch.rand(count, 3, generator=generator)
    order = torch.randperm(count, generator=generator)
    after = before[order] @ torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    features = torch.nn.functional.normalize(torch.randn(count, 8, generator=generator), dim=-1)
    ids = torch.arange(count) + 5
    return torch.stack([before, after]), torch.stack([features, features[order]]), torch.stack([ids, ids[order]])


def match(points, features, ids, **options):
    defaults = {"tolerance": 0.02, "num_queries": 1000, "generator": torch.Generator().manual_seed(0)}
    return match_frames(points, features, ids, **(defaults | options)).tolist()


def test_features_that_tell_every_point_find_it_and_places_do_not():
    asked, features, coordinates, chance = match(*make_frames())
    assert (asked, features) == (60, 60)
    assert coordinates < 20
    assert chance < 10


def test_against_the_slow_reference():
    points, features, ids = make_frames(1)
    features = torch.nn.functional.normalize(
        features + 0.6 * torch.randn(features.shape, generator=torch.Generator().manual_seed(2)), dim=-1
    )
    ids[1, :20] = NO_SURFACE
    ids[0, 3] = NO_SURFACE
    ids[1, 30] = ids[1, 31]
    radius = 0.1 * float((points[0].amax(dim=0) - points[0].amin(dim=0)).norm())
    asked = by_feature = by_place = 0
    for query, own in enumerate(ids[0].tolist()):
        places = [points[1, other] for other in range(60) if ids[1, other] == own]
        if own == NO_SURFACE or not places:
            continue
        asked += 1
        guess = points[1, (features[1] @ features[0, query]).argmax()]
        nearest = points[1, (points[1] - points[0, query]).norm(dim=-1).argmin()]
        by_feature += min(float((guess - place).norm()) for place in places) <= radius
        by_place += min(float((nearest - place).norm()) for place in places) <= radius
    assert match(points, features, ids, tolerance=0.1)[:3] == [asked, by_feature, by_place]
    assert 0 < by_feature < asked


def test_at_most_so_many_are_asked_and_none_without_a_partner():
    points, features, ids = make_frames()
    assert match(points, features, ids, num_queries=7)[0] == 7
    assert match(points, features, torch.stack([ids[0], ids[1] + 1000])) == [0, 0, 0, 0]


def make(path, **settings):
    clips = ClipSettings(num_frames=4, num_points=64, stride=1)
    source = EncoderSource(
        label="random", encoder=build_encoder("point4d", "tiny"), settings=EncoderSettings(size="tiny"), clips=clips, protocol=None,
        side=None, origin=None, step=0,
    )  # fmt: skip
    dataset = ClipDataset(path, clips, targets=False, labels=True)
    return Correspondence(source, dataset, CorrespondenceSettings(clips=clips, **settings))


@pytest.mark.parametrize("gaps", [(), (4,), (1, 9)])
def test_gaps_that_do_not_fit_into_a_clip(store, gaps):
    with pytest.raises(SettingsError, match=r"clips of 4 frames"):
        make(store, gaps=gaps)


def test_the_counts_of_videos_add_up(store):
    evaluation = make(store, gaps=(2,), num_queries=10)
    list(evaluation.run(Place()))
    (score,) = evaluation.result().scores
    assert set(score.videos) == {"s8", "s9", "s10", "s11"}
    assert score.num_queries == sum(counts[0] for counts in score.videos.values()) == 4 * 2 * 10
    assert score.features == pytest.approx(sum(counts[1] for counts in score.videos.values()) / score.num_queries)


def test_the_repeated_last_frame_of_a_short_sequence_is_no_gap(tmp_path):
    infos = [info.model_copy(update={"num_frames": 3}) for info in make_infos()]
    evaluation = make(write_store(tmp_path / "short.zarr", infos), gaps=(1, 3))
    list(evaluation.run(Place()))
    assert [int(counts[0]) for counts in evaluation._found[3].values()] == [0] * 4
    assert all(0 < int(counts[0]) <= 2 * 64 for counts in evaluation._found[1].values()), "frames 0 and 1, 1 and 2, not 2 and 2"


def test_distances_do_not_depend_on_the_origin():
    points, features, ids = make_frames(3)
    near, far = match(points, features, ids), match(points + 50, features, ids)
    assert near == far


def test_a_dataset_without_splits_is_asked_whole(tmp_path, monkeypatch):
    path = write_store(tmp_path / "store.zarr", make_infos(), protocols=())
    assert len(make(path, gaps=(1,)).test) == 12
    path = write_store(
        tmp_path / "unsplit.zarr", [info.model_copy(update={"splits": {}}) for info in make_infos()]
    )  # it could have some, and has none
    assert len(make(path, gaps=(1,)).test) == 12
