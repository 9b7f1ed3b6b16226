import pytest
import torch

from cross4d_train.encoders import build_encoder
from cross4d_train.objectives import build_objective
from cross4d_train.objectives.crossvideo import TEMPERATURE
from cross4d_train.objectives.objective import ObjectiveSettings
from tests.cross4d_train.conftest import TARGETS
from tests.cross4d_train.objectives.contract import BuiltInDistillationContract


class TestCrossVideo(BuiltInDistillationContract):
    name = "crossvideo"
    conditionings = ("none", "center", "whiten:4")


def test_loss_matches_the_reference(make_batch):
    """Clip by clip, in both directions; one clip without targets is left out."""
    batch = make_batch(clips=4)
    batch.rows[1] = -1
    encoder = build_encoder("point4d", "tiny")
    objective = build_objective(ObjectiveSettings(name="crossvideo", conditioning="none"), encoder, TARGETS)
    loss, scalars = objective(encoder, batch)
    predictions = [objective.head(clip.mean(dim=0)) for clip in encoder(batch.points).features]
    targets = [frames.float().mean(dim=0) for frames in batch.frame_features]

    def score(prediction, target):
        return torch.dot(prediction, target) / (prediction.norm() * target.norm()) / TEMPERATURE

    losses, right = [], 0
    for clip in (0, 2, 3):
        found = torch.stack([score(predictions[clip], targets[other]) for other in (0, 2, 3)])
        back = torch.stack([score(predictions[other], targets[clip]) for other in (0, 2, 3)])
        own = score(predictions[clip], targets[clip])
        losses += [found.logsumexp(0) - own, back.logsumexp(0) - own]
        right += int(own == found.max())
    assert torch.allclose(loss, torch.stack(losses).mean(), atol=1e-4)
    assert scalars["accuracy"].item() == pytest.approx(right / 3)
    assert scalars["visible"] == 0.75


def test_one_clip_with_targets_has_nothing_to_be_told_from(make_batch):
    batch = make_batch(clips=3)
    batch.rows[1:] = -1
    encoder = build_encoder("point4d", "tiny")
    objective = build_objective(ObjectiveSettings(name="crossvideo", conditioning="none"), encoder, TARGETS)
    loss, _ = objective(encoder, batch)
    loss.backward()
    assert loss == 0
    assert all((parameter.grad == 0).all() for parameter in encoder.parameters())
