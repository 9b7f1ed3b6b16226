import pytest
import torch
from torch.nn import functional

from cross4d_train.encoders import build_encoder
from cross4d_train.objectives import build_objective
from cross4d_train.objectives.ijepa import HIDDEN, MOMENTUM
from cross4d_train.objectives.masking import hide_tubes
from cross4d_train.objectives.objective import ObjectiveSettings
from tests.cross4d_train.conftest import TARGETS
from tests.cross4d_train.objectives.contract import BuiltInIntraModalContract


class TestIJEPA(BuiltInIntraModalContract):
    name = "ijepa"


@pytest.fixture
def encoder():
    return build_encoder("point4d", "tiny", seed=2)


@pytest.fixture
def objective(encoder):
    return build_objective(ObjectiveSettings(name="ijepa"), encoder, TARGETS)


def test_target_begins_as_the_encoder_and_follows_it(encoder, objective):
    before = [parameter.clone() for parameter in encoder.parameters()]
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(objective.target.parameters(), before, strict=True))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1)
    objective.finish_step(encoder, 0.5)
    momentum = (1 + MOMENTUM) / 2
    for mine, old in zip(objective.target.parameters(), before, strict=True):
        assert torch.allclose(mine, old + 1 - momentum, atol=1e-5)
    objective.finish_step(encoder, 1.0)
    assert torch.allclose(mine, old + 1 - momentum, atol=1e-5)


def test_loss_matches_the_reference(encoder, objective, make_batch, monkeypatch):
    """Token by token, with known answers of the predictor; hidden are the tokens whose centroid was concealed."""
    batch = make_batch(frames=6)
    tokens = encoder(batch.points)
    answers = torch.randn(*tokens.frame.shape, encoder.channels // 2, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(objective.predictor, "forward", lambda *_: answers)
    loss, scalars = objective(encoder, batch)
    masking = hide_tubes(batch.points, share=HIDDEN, generator=batch.generator())
    losses = []
    for clip in range(len(batch)):
        for token in range(tokens.frame.shape[1]):
            segment = int(masking.segments[tokens.frame[clip, token]])
            distances = (masking.centres[clip, segment] - tokens.centroids[clip, token]).norm(dim=-1)
            if masking.hidden[clip, segment, distances.argmin()]:
                feature = tokens.features[clip, token]
                target = (feature - feature.mean()) / (feature.var(correction=0) + 1e-5).sqrt()
                losses.append(functional.smooth_l1_loss(objective.head(answers[clip, token]), target))
    assert torch.allclose(loss, torch.stack(losses).mean(), atol=1e-5)
    assert scalars["hidden"].item() == pytest.approx(len(losses) / tokens.frame.numel())
    assert 0.2 < scalars["hidden"] < 0.9
