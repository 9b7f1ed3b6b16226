import numpy as np
import pytest
import torch

from cross4d_cache.errors import SettingsError
from cross4d_train.clips import ClipSettings, even_requests
from cross4d_train.data import ClipDataset, collate
from cross4d_train.encoders import build_encoder
from cross4d_train.evaluation.evaluation import Place
from cross4d_train.evaluation.features import weights_digest
from cross4d_train.evaluation.segment import Segmentation, SegmentSettings
from cross4d_train.evaluation.source import EncoderSource
from cross4d_train.settings import EncoderSettings

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
    list(evaluation.run(Place()))
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
        list(evaluation.run(Place()))


def test_nothing_left_to_tell_apart(store):
    with pytest.raises(SettingsError, match="3 part names, 1 of which"):
        make(store, ignored=(0, 2))


def test_predictions_of_new_clips(store):
    evaluation, _ = finish(store, ignored=(0,))
    found = evaluation.predict(torch.rand(2, 3, 60, 3))
    assert found.shape == (2, 3, 60)
    assert set(found.unique().tolist()) <= {1, 2}
