"""Evaluations that train see new clips every epoch, changed only where that is documented."""

import math

import pytest

from cross4d_train.clips import epoch_requests
from cross4d_train.evaluation.action_segmentation import ActionSegmentation, ActionSegmentSettings
from cross4d_train.evaluation.finetune import FinetuneSettings, Finetuning
from cross4d_train.evaluation.segment import Segmentation, SegmentSettings
from cross4d_train.resources import Resources
from tests.cross4d_train.evaluation.by_hand import Coordinates, Video, clips_of, make_evaluation, write_videos

NUM_EPOCHS = 20


class Recording(Coordinates):
    """Keeps the first NUM_EPOCHS batches it sees, of one clip of two points each; copies share them."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __deepcopy__(self, memo):
        return self

    def forward(self, points):
        self.seen.append(points.detach().clone())
        return super().forward(points)


@pytest.fixture
def store(tmp_path):
    """Two training videos of nine frames, at x = frame and at x = frame + 100; a body of two points 2 m apart, along x."""

    def frames(shift):
        return [[(frame - 1 + shift, 0.0, 5.0), (frame + 1 + shift, 0.0, 5.0)] for frame in range(9)]

    def video(name, side, shift):
        return Video(id=name, side=side, action=shift // 100, frames=frames(shift), parts=[[0, 1]] * 9)

    videos = [video("left", "train", 0), video("right", "train", 100), video("test", "test", 0)]
    return write_videos(tmp_path / "store.zarr", videos)


CASES = {
    "finetune": (Finetuning, FinetuneSettings, {"fractions": (1.0,), "test_every": NUM_EPOCHS}, True),
    "segment": (Segmentation, SegmentSettings, {}, False),
    "segment end to end": (Segmentation, SegmentSettings, {"end_to_end": True}, True),
    "segment-actions": (ActionSegmentation, ActionSegmentSettings, {}, False),
}


@pytest.mark.parametrize("name", CASES)
def test_clips_of_training(store, name):
    """The middle of a body is its frame, so it tells which clip it was; augmentation turns and scales bodies about it, by at most 15
    degrees and a tenth, and moves points by 5 mm.

    The largest of 40 even draws is above four fifths of the limit with a chance of 1 - 0.8^40, and the seed is fixed.
    """
    kind, make, options, augmented = CASES[name]
    encoder = Recording()
    settings = make(clips=clips_of(1), num_epochs=NUM_EPOCHS, seed=4, **options)
    evaluation = make_evaluation(kind, store, settings, encoder)
    for _ in evaluation.run(Resources(device="cpu")):
        pass
    sequences, scales, angles = evaluation.dataset.cache.sequences, [], []
    for epoch, batch in enumerate(encoder.seen[:NUM_EPOCHS]):
        requests = epoch_requests(settings.clips, sequences, (0, 1), clips_per_sequence=1, seed=4, epoch=epoch)
        middles = batch.mean(dim=(1, 2))[:, 0].tolist()
        assert middles == pytest.approx([request.start + 100 * request.sequence for request in requests], abs=0.05)
        for first, second in batch[:, 0]:
            along = (second - first) if second[0] > first[0] else (first - second)
            scales.append(float(along.norm()) / 2 - 1)
            angles.append(math.degrees(math.atan2(float(along[2]), float(along[0]))))
    if augmented:
        assert 0.08 < max(map(abs, scales)) < 0.11
        assert 12 < max(map(abs, angles)) < 15.5
    else:
        assert max(map(abs, scales)) < 1e-3
        assert max(map(abs, angles)) < 1e-3
