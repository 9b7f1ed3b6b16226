import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cross4d_cache.types import SequenceInfo
from cross4d_train.clips import ClipSettings
from cross4d_train.dataset import ClipDataset
from cross4d_train.encoders import build_encoder
from cross4d_train.encoders.encoder import Tokens
from cross4d_train.evaluation.action_segmentation import (
    ActionSegmentation,
    ActionSegmentSettings,
    RecordingActions,
    covering_requests,
    f1_score,
    frame_features,
)
from cross4d_train.evaluation.encoder_source import EncoderSource
from cross4d_train.evaluation.heads import SegmentHead
from cross4d_train.evaluation.segments import Matches, edit_score, match_segments
from cross4d_train.resources import Resources
from cross4d_train.settings import EncoderSettings
from tests.cross4d_train.evaluation import by_hand


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 90))
def test_every_frame_is_covered_and_no_clip_is_idle(num_frames, stride, length):
    clips = ClipSettings(num_frames=num_frames, num_points=1, stride=stride)
    info = SequenceInfo(id="a", num_frames=length)
    requests = covering_requests(clips, info, 0, seed=0)
    shown = [set(clips.frames(info, request.start).tolist()) for request in requests]
    assert set().union(*shown) == set(range(length))
    assert len(requests) <= stride * -(-length // (num_frames * stride))


def test_frames_without_tokens_take_the_nearest_ones():
    """Tokens of frames 1 and 3 of five, two a frame."""
    features = torch.tensor([[[1.0], [3.0], [10.0], [20.0]]])
    tokens = Tokens(features=features, centroids=torch.zeros(1, 4, 3), frame=torch.tensor([[1, 1, 3, 3]]))
    assert frame_features(tokens, 5).flatten().tolist() == [2, 2, 2, 15, 15]


@pytest.fixture
def finished(store):
    clips = ClipSettings(num_frames=4, num_points=64, stride=2)
    source = EncoderSource(
        label="random", encoder=build_encoder("point4d", "tiny"), settings=EncoderSettings(size="tiny"), clips=clips, protocol=None,
        side=None, origin=None, step=0,
    )  # fmt: skip
    dataset = ClipDataset(store, clips, targets=False, labels=True)
    evaluation = ActionSegmentation(source, dataset, ActionSegmentSettings(clips=clips, num_epochs=3, batch_size=3))
    list(evaluation.run(Resources(device="cpu")))
    return evaluation.result()


def test_every_frame_of_every_test_recording_has_a_class(finished):
    lengths = {"s8": 9, "s9": 7, "s10": 8, "s11": 9}
    assert {item.id: len(item.predicted) for item in finished.recordings} == lengths
    for item in finished.recordings:
        assert list(item.actions) == [frame // 3 % 2 for frame in range(lengths[item.id])]


def test_scores_follow_from_the_frames(finished):
    pairs = [(item.predicted, item.actions) for item in finished.recordings]
    right = [mine == other for predicted, true in pairs for mine, other in zip(predicted, true, strict=True)]
    assert finished.accuracy == pytest.approx(sum(right) / len(right))
    assert finished.edit == pytest.approx(sum(edit_score(*pair) for pair in pairs) / len(pairs))
    for name, overlap in (("10", 0.1), ("25", 0.25), ("50", 0.5)):
        assert finished.f1[name] == pytest.approx(sum((match_segments(*pair, overlap) for pair in pairs), start=Matches(0, 0, 0)).f1)
    assert finished.f1["10"] > finished.f1["50"], "or the overlap would not be tested"
    assert list(finished.f1) == ["10", "25", "50"]


def test_clips_that_cover_a_recording_by_hand():
    """Ten frames, clips of four with stride 2. Even frames: 0 2 4 6, then 8 alone, moved back to 2 4 6 8; odd ones alike."""
    clips = ClipSettings(num_frames=4, num_points=1, stride=2)
    requests = covering_requests(clips, SequenceInfo(id="a", num_frames=10), 5, seed=7)
    assert [(request.sequence, request.start, request.key) for request in requests] == [(5, start, (7, 5, start)) for start in range(4)]
    # Five frames are too few for a clip, and the last repeats: 0 2 4 4 and 1 3 4 4.
    assert [item.start for item in covering_requests(clips, SequenceInfo(id="a", num_frames=5), 5, seed=7)] == [0, 1]


def test_f1_counts_the_segments_of_all_recordings_together():
    """First recording: both segments match. Second: one of three predicted matches the only one. So 3 hits, 2 too many, none missed:
    6 / 8. A third, all wrong, adds one of each: 6 / 10, where the mean over recordings would be (1 + 1/2 + 0) / 3.
    """
    pairs = [([0, 0, 1, 1], [0, 0, 1, 1]), ([0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0])]
    assert f1_score(pairs, 0.5) == pytest.approx(6 / 8)
    assert f1_score([*pairs, ([1, 1], [0, 0])], 0.5) == pytest.approx(6 / 10)


def test_scores_by_hand(store):
    """Frames right: 4 of 4, 3 of 6. Orders of segments: 01 against 01, and 010 against 01, so edit scores 1 and 1 - 1/3. The recording
    without labels counts nowhere.
    """
    settings = ActionSegmentSettings(clips=by_hand.clips_of(4))
    evaluation = by_hand.make_evaluation(ActionSegmentation, store, settings)
    evaluation._recordings = [
        RecordingActions(id="a", actions=(0, 0, 1, 1), predicted=(0, 0, 1, 1)),
        RecordingActions(id="b", actions=(0, 0, 0, 1, 1, 1), predicted=(0, 1, 1, 1, 1, 0)),
        RecordingActions(id="c", actions=(), predicted=()),
    ]
    result = evaluation.result()
    assert result.accuracy == pytest.approx(7 / 10)
    assert result.edit == pytest.approx((1 + 2 / 3) / 2)
    # Of b: 0 overlaps 0-2 by 1/3, 1-4 overlaps 3-5 by 2/5, 5 overlaps 0-2 not at all: both hit at 0.25, neither at 0.5.
    assert result.f1 == {"10": pytest.approx(8 / 9), "25": pytest.approx(8 / 9), "50": pytest.approx(4 / 9)}


def test_recordings_by_hand(tmp_path, monkeypatch):
    """Frames at x = -1 are of action 0, those at +1 of action 1; a training recording has both. Clips of two.

    `plain` is as in training. `odd` is labelled 0 0 1 and stands at -1 1 1: frames right 2 of 3, orders alike; segments overlap by 1/2
    each, which is enough at 0.5. `left` and `right` never move, so standardised by themselves they would be the same. Windows of `odd`
    are 0-1 and 1-2.
    """
    videos = [
        by_hand.Video(id="train", side="train", action=0, frames=by_hand.across(-1, 1, -1, 1), actions=(0, 1, 0, 1)),
        by_hand.Video(id="plain", side="test", action=0, frames=by_hand.across(1, -1, -1), actions=(1, 0, 0)),
        by_hand.Video(id="odd", side="test", action=0, frames=by_hand.across(-1, 1, 1), actions=(0, 0, 1)),
        by_hand.Video(id="left", side="test", action=0, frames=by_hand.across(-1, -1, -1), actions=(0, 0, 0)),
        by_hand.Video(id="right", side="test", action=0, frames=by_hand.across(1, 1, 1), actions=(1, 1, 1)),
    ]
    path = by_hand.write_videos(tmp_path / "store.zarr", videos)
    rates = by_hand.record_rates(monkeypatch)
    settings = ActionSegmentSettings(clips=by_hand.clips_of(2), num_epochs=60, learning_rate=0.1)
    result = by_hand.finish(ActionSegmentation, path, settings)
    assert [item.predicted for item in result.recordings] == [(1, 0, 0), (0, 1, 1), (0, 0, 0), (1, 1, 1)]
    assert [item.actions for item in result.recordings] == [(1, 0, 0), (0, 0, 1), (0, 0, 0), (1, 1, 1)]
    assert result.accuracy == pytest.approx(11 / 12)
    assert (result.edit, result.f1) == (1, {"10": 1, "25": 1, "50": 1})
    assert [rates[epoch] for epoch in (0, 15, 30, 45)] == pytest.approx([0.1, 0.0853553, 0.05, 0.0146447], rel=1e-5)


def test_a_frame_of_two_windows_has_the_sum_of_their_softmax(tmp_path, monkeypatch):
    """Three frames in clips of two: the middle one is in both. Shares there: 0.92 of class 0 and 0.08 of 2, then 0.88 of 1 and 0.12 of 2.

    So class 0; the sums of logits, 10.5, 10 and 16, would say class 2, and the later window alone class 1.
    """
    videos = [by_hand.Video(id=side, side=side, action=0, frames=by_hand.across(0, 0, 0), actions=(0, 0, 1)) for side in ("train", "test")]
    path = by_hand.write_videos(tmp_path / "store.zarr", videos)
    evaluation = by_hand.make_evaluation(ActionSegmentation, path, ActionSegmentSettings(clips=by_hand.clips_of(2), batch_size=1))
    evaluation.num_classes = 3
    logits = [[[0.0, 9.0, 0.0], [10.5, 0.0, 8.0]], [[0.0, 10.0, 8.0], [0.0, 0.0, 9.0]]]
    windows = itertools.chain(torch.tensor([window]) for window in logits)
    monkeypatch.setattr(evaluation, "_frames", lambda *_: next(windows))
    evaluation.loader = Resources(device="cpu").loader(evaluation.dataset)
    head = SegmentHead(3, 3, seed=0)
    monkeypatch.setattr(head, "forward", lambda features: features)
    found = evaluation._label(1, head, Resources(device="cpu"))
    assert (found.id, found.actions, found.predicted) == ("test", (0, 0, 1), (1, 0, 2))
