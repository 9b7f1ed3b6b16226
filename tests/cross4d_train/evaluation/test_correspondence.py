import pytest
import torch

from cross4d_cache.errors import SettingsError
from cross4d_train.clips import ClipSettings
from cross4d_train.dataset import NO_SURFACE, ClipDataset
from cross4d_train.encoders import build_encoder
from cross4d_train.evaluation.correspondence import Correspondence, CorrespondenceSettings, match_frames
from cross4d_train.evaluation.encoder_source import EncoderSource
from cross4d_train.resources import Resources
from cross4d_train.settings import EncoderSettings
from tests.cross4d_train.conftest import make_infos, write_store
from tests.cross4d_train.evaluation.by_hand import Video, clips_of, finish, write_videos


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


def make(path, num_frames=4, **settings):
    clips = ClipSettings(num_frames=num_frames, num_points=64, stride=1)
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


@pytest.mark.parametrize(("num_frames", "gaps"), [(4, (3,)), (8, (7,)), (9, (8,)), (15, (8,)), (16, (8, 15)), (24, (8, 15))])
def test_the_default_gaps_are_those_that_fit(store, num_frames, gaps):
    assert make(store, num_frames).settings.gaps == gaps


def test_a_clip_of_one_frame_has_no_gap(store):
    with pytest.raises(SettingsError, match=r"(?s)clips of 1 frames.*two frames"):
        make(store, 1)


def test_the_counts_of_videos_add_up(store):
    evaluation = make(store, gaps=(2,), num_queries=10)
    list(evaluation.run(Resources(device="cpu")))
    (score,) = evaluation.result().scores
    assert set(score.videos) == {"s8", "s9", "s10", "s11"}
    assert score.num_queries == sum(counts[0] for counts in score.videos.values()) == 4 * 2 * 10
    assert score.features == pytest.approx(sum(counts[1] for counts in score.videos.values()) / score.num_queries)


def test_the_repeated_last_frame_of_a_short_sequence_is_no_gap(tmp_path):
    infos = [info.model_copy(update={"num_frames": 3}) for info in make_infos()]
    evaluation = make(write_store(tmp_path / "short.zarr", infos), gaps=(1, 3))
    list(evaluation.run(Resources(device="cpu")))
    assert [int(counts[0]) for counts in evaluation._found[3].values()] == [0] * 4
    assert all(0 < int(counts[0]) <= 2 * 64 for counts in evaluation._found[1].values()), "frames 0 and 1, 1 and 2, not 2 and 2"


def test_distances_do_not_depend_on_the_origin():
    points, features, ids = make_frames(3)
    near, far = match(points, features, ids), match(points + 50, features, ids)
    assert near == far


def test_a_dataset_without_splits_is_asked_whole(tmp_path, monkeypatch):
    path = write_store(tmp_path / "store.zarr", make_infos(), protocols=())
    assert len(make(path, gaps=(1,)).test) == 12
    with pytest.raises(SettingsError, match="no protocol"):
        make(path, gaps=(1,), protocol="cross-subject")
    path = write_store(
        tmp_path / "unsplit.zarr", [info.model_copy(update={"splits": {}}) for info in make_infos()]
    )  # it could have some, and has none
    assert len(make(path, gaps=(1,)).test) == 12


def test_a_match_is_right_within_a_share_of_the_first_frame_s_box():
    """The first frame's diagonal is 5, so a tenth is 0.5; that of the second is 50.

    Points stay themselves. By features 0 is taken for 1, 0.4 from its true place; 1 for 2, 1.6 away; 2 for itself; 3 for 0, 50 away:
    two right. By coordinates (0, 0) finds itself, (3, 4) and (1, 1) find the wrong neighbour, (0, 1) finds (0, 0): one right.
    """
    points = torch.tensor(
        [[[0.0, 0, 0], [3, 4, 0], [1, 1, 0], [0, 1, 0]], [[0.0, 0, 0], [0.4, 0, 0], [2, 0, 0], [30, 40, 0]]],
    )
    one_hot = torch.eye(4)
    features = torch.stack([one_hot[[1, 2, 2, 0]], one_hot])
    ids = torch.arange(4).expand(2, -1)
    assert match(points, features, ids, tolerance=0.1)[:3] == [4, 2, 1]
    assert match(points, features, ids, tolerance=0.079)[:3] == [4, 1, 1], "0.395 is less than 0.4"


def test_a_random_point_is_right_where_all_are_near():
    """All points of the second frame lie within the radius of 0.1, so whatever is drawn is right; far apart, the true one alone is."""
    points = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 0, 0]], [[5.0, 0, 0], [5.05, 0, 0], [5.02, 0, 0]]])
    ids, features = torch.arange(3).expand(2, -1), torch.eye(3).expand(2, -1, -1)
    assert match(points, features, ids, tolerance=0.1) == [3, 3, 3, 3]
    points[1] *= 10  # 50, 50.5 and 50.2
    drawn = torch.Generator().manual_seed(0)
    order = torch.randperm(3, generator=drawn)
    expected = int((torch.randint(3, (3,), generator=drawn) == order).sum())
    assert match(points, features, ids, tolerance=0.1) == [3, 3, 1, expected]


def test_three_videos_by_hand(tmp_path):
    """Features are coordinates, compared by direction, between two frames; a match has to be exact to 2 % of the box.

    `grows`: all three points go twice as far from the origin: three right by direction; by coordinates (2, 1, 0) finds (2, 0, 0), which
    was (1, 0, 0), so two. `rests`: three and three. `swaps`: two points change places, and one is right either way. `odd` has no track.
    """
    first = [(1.0, 0.0, 0.0), (2.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    doubled = [(2 * x, 2 * y, 2 * z) for x, y, z in first]
    tracks = [[0, 1, 2], [0, 1, 2]]
    videos = [
        Video(id="unused", side="train", action=0, frames=[first, first], surfaces=tracks),
        Video(id="grows", side="test", action=0, frames=[first, doubled], surfaces=tracks),
        Video(id="rests", side="test", action=0, frames=[first, first], surfaces=tracks),
        Video(id="swaps", side="test", action=0, frames=[first, first], surfaces=[[0, 1, 2], [1, 0, 2]]),
        Video(id="odd", side="test", action=0, frames=[first, first], surfaces=[[0, 1, 2], [3, 4, 5]]),
    ]
    path = write_videos(tmp_path / "store.zarr", videos)
    result = finish(Correspondence, path, CorrespondenceSettings(clips=clips_of(2, 3), gaps=(1,)))
    (score,) = result.scores
    assert {name: counts[:3] for name, counts in score.videos.items()} == {
        "grows": (3, 3, 2),
        "rests": (3, 3, 3),
        "swaps": (3, 1, 1),
        "odd": (0, 0, 0),
    }
    assert (score.num_queries, score.features, score.coordinates) == (9, pytest.approx(7 / 9), pytest.approx(6 / 9))
    assert score.chance == pytest.approx(sum(counts[3] for counts in score.videos.values()) / 9)


def test_pairs_of_frames_by_hand(tmp_path):
    """Ten frames, a clip of six: pairs four apart begin at 0, 1 (the middle, (6 - 4) // 2) and 1 again, so once each; five apart at 0."""
    still = [[(0.0, 0.0, 0.0), (1.0, 1.0, 1.0)]] * 10
    videos = [Video(id=side, side=side, action=0, frames=still, surfaces=[[0, 1]] * 10) for side in ("train", "test")]
    path = write_videos(tmp_path / "store.zarr", videos)
    result = finish(Correspondence, path, CorrespondenceSettings(clips=clips_of(6, 2), gaps=(1, 4, 5)))
    assert [score.num_queries for score in result.scores] == [3 * 2, 2 * 2, 1 * 2]
    assert [score.coordinates for score in result.scores] == [1, 1, 1]


def test_the_middle_pair_of_frames_by_hand(tmp_path):
    """Two frames apart in a clip of six: pairs begin at 0, at 2, (6 - 2) // 2, and at 3.

    Frames 0 and 2 share two tracks, 2 and 4 none, 3 and 5 two; 1 and 3 would share two as well.
    """
    tracks = [[0, 1], [4, 5], [0, 1], [4, 5], [8, 9], [4, 5]]
    still = [[(0.0, 0.0, 0.0), (1.0, 1.0, 1.0)]] * 6
    videos = [Video(id=side, side=side, action=0, frames=still, surfaces=tracks) for side in ("train", "test")]
    path = write_videos(tmp_path / "store.zarr", videos)
    (score,) = finish(Correspondence, path, CorrespondenceSettings(clips=clips_of(6, 2), gaps=(2,))).scores
    assert score.num_queries == 2 + 0 + 2


def test_sequences_that_no_protocol_knows_are_asked_with_the_test_side(tmp_path):
    """One that another protocol knows was left out of this one on purpose."""
    infos = make_infos()
    infos[0] = infos[0].model_copy(update={"splits": {}})
    infos[1] = infos[1].model_copy(update={"splits": {"cross-view": "test"}})
    evaluation = make(write_store(tmp_path / "some.zarr", infos), gaps=(1,))
    sides = {info.id for info in infos if info.splits.get("cross-subject") == "test"}
    assert {infos[index].id for index in evaluation.test} == {*sides, infos[0].id}
    assert evaluation.settings.protocol == "cross-subject"


def test_a_store_without_a_test_side_is_asked_whole(tmp_path):
    """As one made with --limit is."""
    infos = [info for info in make_infos() if info.splits["cross-subject"] == "train"]
    evaluation = make(write_store(tmp_path / "train.zarr", infos), gaps=(1,))
    assert len(evaluation.test) == len(infos)
    assert evaluation.settings.protocol is None, "the result must not say that these are test videos of a protocol"
