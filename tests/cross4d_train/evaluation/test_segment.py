import numpy as np
import pytest
import torch

from cross4d_cache.errors import SettingsError
from cross4d_train.clips import ClipSettings, even_requests
from cross4d_train.data import collate
from cross4d_train.dataset import ClipDataset
from cross4d_train.encoders import build_encoder
from cross4d_train.evaluation.encoder_source import EncoderSource
from cross4d_train.evaluation.features import weights_digest
from cross4d_train.evaluation.heads import SegmentHead
from cross4d_train.evaluation.segment import Segmentation, SegmentSettings, VideoParts
from cross4d_train.resources import Resources
from cross4d_train.settings import EncoderSettings
from tests.cross4d_train.evaluation import by_hand

CLIPS = ClipSettings(num_frames=3, num_points=60, stride=1)


def make(path, **settings):
    encoder = build_encoder("point4d", "tiny")
    source = EncoderSource(
        label="random", encoder=encoder, settings=EncoderSettings(size="tiny"), clips=CLIPS, protocol=None, side=None, origin=None, step=0
    )
    defaults = {"num_epochs": 3, "batch_size": 4, "learning_rate": 1e-2}
    dataset = ClipDataset(path, CLIPS, targets=False, labels=True)
    return Segmentation(source, dataset, SegmentSettings(clips=CLIPS, **(defaults | settings)))


def finish(path, **settings):
    evaluation = make(path, **settings)
    list(evaluation.run(Resources(device="cpu")))
    return evaluation, evaluation.result()


@pytest.mark.parametrize("ignored", [(), (1,)])
def test_scores_against_the_slow_reference(store, ignored):
    evaluation, result = finish(store, ignored=ignored, num_windows=2)
    requests = even_requests(CLIPS, evaluation.dataset.cache.sequences, evaluation.test, num_windows=2, seed=0)
    batch = collate([evaluation.dataset[request] for request in requests])
    true, found = batch.part_labels.flatten().tolist(), evaluation.predict(batch.points).flatten().tolist()
    pairs = [(label, guess) for label, guess in zip(true, found, strict=True) if label not in ignored]
    assert not set(found) & set(ignored)
    ious, recalls = [], []
    for label in sorted({label for label, _ in pairs}):
        both = sum(pair == (label, label) for pair in pairs)
        either = sum(label in pair for pair in pairs)
        ious.append(both / either)
        recalls.append(both / sum(known == label for known, _ in pairs))
    assert result.mean_iou == pytest.approx(np.mean(ious))
    assert result.mean_accuracy == pytest.approx(np.mean(recalls))
    assert result.overall_accuracy == pytest.approx(np.mean([label == guess for label, guess in pairs]))
    assert sum(video.num_points for video in result.videos) == len(pairs)
    assert sum(video.num_correct for video in result.videos) == sum(label == guess for label, guess in pairs)


def test_parts_that_follow_from_height_are_learned(store):
    _, short = finish(store, num_epochs=1, learning_rate=1e-6)
    _, result = finish(store, num_epochs=30, batch_size=2)
    assert result.mean_iou > short.mean_iou + 0.1, (result.mean_iou, short.mean_iou)


def test_end_to_end_trains_a_copy_and_a_frozen_encoder_stays(store):
    frozen, _ = finish(store)
    trained, _ = finish(store, end_to_end=True)
    untouched = weights_digest(build_encoder("point4d", "tiny"))
    assert weights_digest(frozen.encoder) == untouched
    assert weights_digest(trained.encoder) != untouched
    assert weights_digest(trained.source.encoder) == untouched


def test_an_encoder_that_changes_is_caught(store):
    evaluation = make(store)
    evaluation.encoder.register_forward_hook(lambda module, *_: setattr(module.norm.bias, "data", module.norm.bias + 1))
    with pytest.raises(RuntimeError, match="changed"):
        list(evaluation.run(Resources(device="cpu")))


def test_nothing_left_to_tell_apart(store):
    with pytest.raises(SettingsError, match="3 part names, 1 of which"):
        make(store, ignored=(0, 2))


@pytest.mark.parametrize("label", [3, -1])
def test_labels_to_ignore_are_labels_of_the_store(store, label):
    with pytest.raises(SettingsError, match=f"`ignored` {label}, a label that the store does not have") as error:
        make(store, ignored=(1, label))
    assert error.value.expected == "one of: 0 head, 1 trunk, 2 legs"


def test_predictions_of_new_clips(store):
    evaluation, _ = finish(store, ignored=(0,))
    found = evaluation.predict(torch.rand(2, 3, 60, 3))
    assert found.shape == (2, 3, 60)
    assert set(found.unique().tolist()) <= {1, 2}


def test_labels_that_never_occur_are_not_averaged_over(store):
    """Labelled, predicted and both over two videos: 6, 6 and 5 of label 0; 4, 3 and 3 of label 1; label 2 is predicted once, wrongly.

    IoU 5 / (6 + 6 - 5) and 3 / (4 + 3 - 3); that of label 2 would be 0. Recall 5 / 6 and 3 / 4; 8 of 10 points are right.
    """
    evaluation = make(store)
    evaluation._videos = [
        VideoParts(id="a", num_points=6, num_correct=5, labelled={0: 4, 1: 2}, predicted={0: 3, 1: 2, 2: 1}, both={0: 3, 1: 2}),
        VideoParts(id="b", num_points=4, num_correct=3, labelled={0: 2, 1: 2}, predicted={0: 3, 1: 1}, both={0: 2, 1: 1}),
    ]
    result = evaluation.result()
    assert result.iou == {0: pytest.approx(5 / 7), 1: pytest.approx(3 / 4)}
    assert result.mean_iou == pytest.approx((5 / 7 + 3 / 4) / 2)
    assert result.mean_accuracy == pytest.approx((5 / 6 + 3 / 4) / 2)
    assert result.overall_accuracy == pytest.approx(8 / 10)


@pytest.mark.parametrize("end_to_end", [False, True])
def test_three_videos_by_hand(tmp_path, monkeypatch, end_to_end):
    """Parts follow from height: label 0 at y = 0, label 2 at y = 1; label 1 is ignored. A point is a token, so it keeps its own logits.

    One training video and two test videos of two frames. Of `plain` all four points are as in training; of `odd` one point at y = 1
    is labelled 0, one at y = 0 is labelled 2, one is ignored. So label 0: labelled 4, predicted 4, both 3; label 2: 3, 3 and 2.
    """
    up = by_hand.across(0.5, 0.5)
    videos = [
        by_hand.Video(id="train", side="train", action=0, frames=up * 3, parts=[[0, 2]] * 6),
        by_hand.Video(id="plain", side="test", action=0, frames=up, parts=[[0, 2], [0, 2]]),
        by_hand.Video(id="odd", side="test", action=0, frames=up, parts=[[2, 0], [0, 1]]),
    ]
    path = by_hand.write_videos(tmp_path / "store.zarr", videos)
    rates = by_hand.record_rates(monkeypatch)
    options = {"num_epochs": 60, "learning_rate": 0.1, "end_to_end": end_to_end, "ignored": (1,)}
    result = by_hand.finish(Segmentation, path, SegmentSettings(clips=by_hand.clips_of(2), **options))
    plain, odd = result.videos
    assert (plain.labelled, plain.predicted, plain.both) == ({0: 2, 2: 2}, {0: 2, 2: 2}, {0: 2, 2: 2})
    assert (odd.labelled, odd.predicted, odd.both) == ({0: 2, 2: 1}, {0: 2, 2: 1}, {0: 1})
    assert (plain.num_points, plain.num_correct, odd.num_points, odd.num_correct) == (4, 4, 3, 1)
    assert result.iou == {0: pytest.approx(3 / 5), 2: pytest.approx(2 / 4)}
    assert result.mean_iou == pytest.approx(0.55)
    assert result.mean_accuracy == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert result.overall_accuracy == pytest.approx(5 / 7)
    # Half a cosine over 60 epochs of one step: after 15, 30 and 45 it is at 45, 90 and 135 degrees.
    assert [rates[epoch] for epoch in (0, 15, 30, 45)] == pytest.approx([0.1, 0.0853553, 0.05, 0.0146447], rel=1e-5)


def test_test_clips_are_not_standardised_by_themselves(tmp_path):
    """`low` is at y = 0 all over and `high` at y = 1, each in a batch of its own: by itself either would be in the middle."""
    parts = {"both": (0, 2), "low": (0, 0), "high": (2, 2)}
    videos = [
        by_hand.Video(
            id=name,
            side="train" if name == "both" else "test",
            action=0,
            frames=[[(0.1 * number, label / 2, 0.0) for number, label in enumerate(labels)]] * 4,
            parts=[labels] * 4,
        )
        for name, labels in parts.items()
    ]
    path = by_hand.write_videos(tmp_path / "store.zarr", videos)
    settings = SegmentSettings(clips=by_hand.clips_of(2), num_epochs=60, learning_rate=0.1, batch_size=1, ignored=(1,))
    result = by_hand.finish(Segmentation, path, settings, by_hand.Coordinates((1,)))
    assert [video.predicted for video in result.videos] == [{0: 4}, {2: 4}]


def test_the_head_judges_by_the_mean_over_batches_since_it_forgot():
    """Batches of one channel with means 1 and 4, and variances, of the sample, 2 and 8: later mean 2.5 and variance 5."""
    head = SegmentHead(1, 2, seed=0)
    head(torch.tensor([[[100.0], [300.0]]]))
    head.forget()
    for low, high in ((0.0, 2.0), (2.0, 6.0)):
        head(torch.tensor([[[low], [high]]]))
    assert (head.norm.running_mean.tolist(), head.norm.running_var.tolist()) == ([2.5], [5])
    expected = head.layer(torch.tensor([[[(4 - 2.5) / (5 + 1e-5) ** 0.5]]]))
    assert torch.allclose(head.eval()(torch.tensor([[[4.0]]])), expected)
