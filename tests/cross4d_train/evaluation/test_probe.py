from dataclasses import replace

import pytest

from cross4d_cache.types import SequenceInfo
from cross4d_train.clips import ClipSettings
from cross4d_train.dataset import ClipDataset
from cross4d_train.encoders import build_encoder
from cross4d_train.evaluation.base import VideoPrediction
from cross4d_train.evaluation.encoder_source import EncoderSource
from cross4d_train.evaluation.linear import HeadScore, HeadSettings, accuracy
from cross4d_train.evaluation.probe import LinearProbe, ProbeSettings
from cross4d_train.resources import Resources
from cross4d_train.settings import EncoderSettings, Origin, recipe_clips
from tests.cross4d_train.conftest import write_store
from tests.cross4d_train.evaluation.by_hand import Video, across, clips_of, finish, write_videos

CLIPS = recipe_clips("fake")


@pytest.fixture
def dataset(store):
    return ClipDataset(store, CLIPS, targets=False)


@pytest.fixture
def source(dataset):
    return EncoderSource(
        label="run",
        encoder=build_encoder("point4d", "tiny"),
        settings=EncoderSettings(size="tiny"),
        clips=CLIPS,
        protocol="cross-subject",
        side="train",
        origin=Origin.of(dataset.cache.manifest),
        step=1,
    )


def test_test_videos_the_encoder_has_seen(dataset, source):
    def seen(**changes):
        return LinearProbe(replace(source, **changes), dataset, ProbeSettings(clips=CLIPS)).num_test_seen

    assert seen() == 0
    assert seen(side="test") == 4
    assert seen(side="all", protocol=None) == 4
    assert seen(origin=None, side=None) == 0
    elsewhere = {name: source.origin.model_copy(update={name: "other"}) for name in ("dataset", "sequences", "fingerprint")}
    assert seen(side="all", origin=elsewhere["dataset"]) == 0
    assert seen(side="all", origin=elsewhere["fingerprint"]) == 4, "another teacher, but the same videos"
    assert seen(side="all", origin=elsewhere["sequences"]) is None
    assert seen(protocol="a protocol this store does not know") is None


def test_both_sides_are_those_of_the_protocol(tmp_path, source):
    """Four videos, each on another pair of sides; the first protocol is the default."""
    sides = [("train", "train"), ("train", "test"), ("test", "train"), ("test", "test")]
    infos = [
        SequenceInfo(id=f"s{number}", num_frames=3, action=min(number, 1), splits={"cross-subject": subject, "cross-view": view})
        for number, (subject, view) in enumerate(sides)
    ]
    dataset = ClipDataset(write_store(tmp_path / "store.zarr", infos), CLIPS, targets=False)
    found = {name: LinearProbe(source, dataset, ProbeSettings(clips=CLIPS, protocol=name)) for name in (None, "cross-view")}
    assert [(probe.train, probe.test) for probe in found.values()] == [((0, 1), (2, 3)), ((0, 2), (1, 3))]
    assert [probe.settings.protocol for probe in found.values()] == ["cross-subject", "cross-view"]


def test_both_denominators_are_told_apart(store, source):
    """The test videos have 9, 7, 8 and 9 frames: three of four have a full clip of 8."""
    clips = ClipSettings(num_frames=8, num_points=16, stride=1)
    probe = LinearProbe(source, ClipDataset(store, clips, targets=False), ProbeSettings(clips=clips, num_windows=2))
    for _ in probe.run(Resources(device="cpu")):
        pass
    result = probe.result()
    assert (result.num_test_videos, result.num_full_clip_test_videos) == (4, 3)
    for score, full in ((result.raw, result.raw_full_clip), (result.standardised, result.standardised_full_clip)):
        correct = {item.id: item.action == item.predicted for item in score.predictions}
        assert full == pytest.approx((correct["s8"] + correct["s10"] + correct["s11"]) / 3)
        assert score.video_accuracy == pytest.approx(sum(correct.values()) / 4)
    text = result.describe()
    assert "3 of the test videos have a full clip of 8 frames" in text


def test_a_test_side_of_short_videos_only_has_no_full_clip_accuracy(store, source):
    clips = ClipSettings(num_frames=10, num_points=16, stride=1)
    probe = LinearProbe(source, ClipDataset(store, clips, targets=False), ProbeSettings(clips=clips, num_windows=1))
    for _ in probe.run(Resources(device="cpu")):
        pass
    result = probe.result()
    assert result.num_full_clip_test_videos == 0
    assert result.raw_full_clip is None
    assert "none" in result.describe()


@pytest.fixture
def three_videos(tmp_path):
    """Bodies of action 0 stand at x = -1, those of action 1 at +1. Of the test videos `late` stands left first, and `odd` is labelled
    against what it shows.
    """
    videos = [
        Video(id="left", side="train", action=0, frames=across(-1, -1, -1)),
        Video(id="right", side="train", action=1, frames=across(1, 1, 1)),
        Video(id="plain", side="test", action=0, frames=across(-1, -1, -1)),
        Video(id="late", side="test", action=1, frames=across(-1, 1, 1)),
        Video(id="odd", side="test", action=0, frames=across(1)),
    ]
    return write_videos(tmp_path / "three.zarr", videos)


def probe_by_hand(path, **head):
    """Clips of one frame, so three windows are the three frames."""
    clips = clips_of(1)
    settings = ProbeSettings(clips=clips, num_windows=3, head=HeadSettings(num_epochs=100, learning_rate=0.1, **head))
    return finish(LinearProbe, path, settings)


def test_three_videos_by_hand(three_videos):
    """Windows right: three of `plain`, two of `late`, none of `odd`. Mean and deviation of x over training are 0 and 1, so
    standardisation changes nothing.
    """
    result = probe_by_hand(three_videos)
    for score in (result.raw, result.standardised):
        assert (score.train_accuracy, score.clip_accuracy) == (1, pytest.approx(5 / 9))
        assert score.video_accuracy == pytest.approx(2 / 3)
        assert [(item.id, item.action, item.predicted) for item in score.predictions] == [("plain", 0, 0), ("late", 1, 1), ("odd", 0, 1)]
    assert (result.num_classes, result.num_train_videos, result.num_test_videos) == (2, 2, 3)
    assert (result.num_short_videos, result.raw_full_clip) == (0, pytest.approx(2 / 3))


def test_videos_without_a_full_clip_by_hand(three_videos):
    """In clips of three frames the means of x are -1, +1/3 and +1; `odd`, a single frame, is left out of the second figure."""
    settings = ProbeSettings(clips=clips_of(3), num_windows=1, head=HeadSettings(num_epochs=100, learning_rate=0.1))
    result = finish(LinearProbe, three_videos, settings)
    assert (result.raw.video_accuracy, result.raw_full_clip) == (pytest.approx(2 / 3), 1)
    assert (result.num_short_videos, result.num_full_clip_test_videos) == (1, 2)


def test_videos_without_a_label_and_classes_are_counted(tmp_path):
    """Three classes and one unlabelled video in training; of them the test side has one, and two unlabelled videos."""
    sides = {"train": (0, 1, 2, -1), "test": (0, -1, -1)}
    videos = [
        Video(id=f"{side}{number}", side=side, action=action, frames=across(action))
        for side, actions in sides.items()
        for number, action in enumerate(actions)
    ]
    path = write_videos(tmp_path / "store.zarr", videos)
    result = finish(LinearProbe, path, ProbeSettings(clips=clips_of(1), num_windows=1, head=HeadSettings(num_epochs=1)))
    assert (result.num_classes, result.num_unlabelled_videos) == (3, 3)
    assert (result.num_train_videos, result.num_test_videos) == (3, 1)


def test_both_heads_have_their_own_figures(three_videos, monkeypatch):
    """A head without standardisation that has `late` wrong, one with it that has all right; `odd` has no full clip of three frames."""

    def fit(train, test, settings, *, standardise):
        guesses = {"plain": 0, "late": int(standardise), "odd": 0}
        found = tuple(VideoPrediction(id=id, action=guesses[id] if id != "late" else 1, predicted=guesses[id]) for id in test.ids)
        return HeadScore(train_accuracy=1, clip_accuracy=1, video_accuracy=accuracy(found), predictions=found)

    monkeypatch.setattr("cross4d_train.evaluation.probe.fit_head", fit)
    result = finish(LinearProbe, three_videos, ProbeSettings(clips=clips_of(3), num_windows=1))
    assert (result.raw.video_accuracy, result.standardised.video_accuracy) == (pytest.approx(2 / 3), 1)
    assert (result.raw_full_clip, result.standardised_full_clip) == (pytest.approx(1 / 2), 1)
    off, on = (line.split() for line in result.describe().splitlines()[-2:])
    assert off == ["off", "1.000", "0.667", "0.500", "1.000"]
    assert on == ["on", "1.000", "1.000", "1.000", "1.000"]
