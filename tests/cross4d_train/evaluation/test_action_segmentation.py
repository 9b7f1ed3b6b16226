import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cross4d_cache.types import SequenceInfo
from cross4d_train.clips import ClipSettings
from cross4d_train.data import ClipDataset
from cross4d_train.encoders import build_encoder
from cross4d_train.encoders.encoder import Tokens
from cross4d_train.evaluation.action_segmentation import ActionSegmentation, ActionSegmentSettings, covering_requests, frame_features
from cross4d_train.evaluation.evaluation import Place
from cross4d_train.evaluation.segments import Matches, edit_score, match_segments
from cross4d_train.evaluation.source import EncoderSource
from cross4d_train.settings import EncoderSettings


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
    list(evaluation.run(Place()))
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
