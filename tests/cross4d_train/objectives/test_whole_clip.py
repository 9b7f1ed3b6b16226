import pytest
import torch

from cross4d_cache.errors import SettingsError
from cross4d_train.encoders import build_encoder
from cross4d_train.objectives import build_objective
from cross4d_train.objectives.objective import ObjectiveSettings
from tests.cross4d_train.conftest import TARGETS
from tests.cross4d_train.objectives.contract import DistillationContract


class TestWholeClip(DistillationContract):
    name = "global"
    conditionings = ("none", "center", "whiten:4")


@pytest.mark.parametrize("conditioning", ["center-patch", "whiten-patch:4"])
def test_global_embeddings_have_no_patch(conditioning):
    settings = ObjectiveSettings(name="global", conditioning=conditioning)
    with pytest.raises(SettingsError, match=r"(?s)belong to no patch.*none, center or whiten:K.*--conditioning"):
        build_objective(settings, build_encoder("point4d", "tiny"), TARGETS)


def test_loss_matches_the_reference(make_batch):
    """Clip by clip; one clip of which no view sees a point is left out."""
    batch = make_batch(clips=4)
    batch.rows[2] = -1
    encoder = build_encoder("point4d", "tiny")
    settings = ObjectiveSettings(name="global", conditioning="none", variance_weight=0)
    objective = build_objective(settings, encoder, TARGETS)
    tokens = encoder(batch.points)
    loss, scalars = objective(encoder, batch)
    losses = []
    for clip in (0, 1, 3):
        target = torch.stack([frame.float() for frame in batch.frame_features[clip]]).mean(dim=0)
        prediction = objective.head(torch.stack(list(tokens.features[clip])).mean(dim=0))
        losses.append(1 - torch.dot(prediction, target) / (prediction.norm() * target.norm()))
    assert torch.allclose(loss, torch.stack(losses).mean(), atol=1e-5)
    assert scalars["visible"] == 0.75
