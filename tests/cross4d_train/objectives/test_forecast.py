from dataclasses import replace

import pytest
import torch

from cross4d_cache.errors import SettingsError
from cross4d_train.encoders import build_encoder
from cross4d_train.encoders.point4d import Point4D
from cross4d_train.objectives import build_objective
from cross4d_train.objectives import forecast as module
from cross4d_train.objectives.objective import ObjectiveSettings
from tests.cross4d_train.conftest import CHANNELS, TARGETS
from tests.cross4d_train.objectives.contract import BuiltInDistillationContract

SWITCHED = ("point4d",)
"""Switches change what is asked of tokens, not how they come about: one encoder is enough."""


class TestFutureView(BuiltInDistillationContract):
    name = "forecast"
    conditionings = ("none", "whiten-patch:4")


class TestField(BuiltInDistillationContract):
    name = "forecast:field"
    conditionings = ("center",)
    encoders = SWITCHED


class TestRollout(BuiltInDistillationContract):
    name = "forecast:rollout"
    conditionings = ("none",)
    encoders = SWITCHED


class TestConsistency(BuiltInDistillationContract):
    name = "forecast:consistency"
    conditionings = ("none",)
    encoders = SWITCHED


class TestConsistentRollout(BuiltInDistillationContract):
    name = "forecast:rollout+consistency"
    conditionings = ("none",)
    encoders = SWITCHED


def make(name, encoder, **spec):
    return build_objective(ObjectiveSettings(name=name, conditioning="none", variance_weight=0), encoder, replace(TARGETS, **spec))


@pytest.mark.parametrize("name", ["forecast", "forecast:field", "forecast:rollout"])
def test_only_the_first_half_is_seen(make_batch, monkeypatch, name):
    """Later frames decide where and what is asked, but the encoder never sees them."""
    encoder, batch, seen = build_encoder("point4d", "tiny"), make_batch(frames=5), []
    forward = Point4D.forward
    monkeypatch.setattr(Point4D, "forward", lambda self, points: seen.append(points) or forward(self, points))
    make(name, encoder)(encoder, batch)
    assert len(seen) == 1
    assert torch.equal(seen[0], batch.points[:, :2])


@pytest.mark.parametrize("name", ["forecast", "forecast:field"])
def test_loss_matches_the_reference(make_batch, monkeypatch, name):
    """Point by point, view by view, with known answers of the predictor."""
    monkeypatch.setattr(module, "QUERIES", 6)
    encoder, batch = build_encoder("point4d", "tiny"), make_batch(frames=4)
    objective = make(name, encoder)
    answers = torch.randn(2, 12, encoder.channels, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(objective.predictor, "forward", lambda *_: answers)
    loss, scalars = objective(encoder, batch)
    losses, count = [], 0
    for clip in range(2):
        for query in range(12):
            rows = batch.rows[clip, 2 + query // 6, query % 6].tolist()
            guesses = objective.head(answers[clip, query]).view(-1, CHANNELS)
            features = [batch.features[row].float() for row in rows if row >= 0]
            if name == "forecast":
                pairs = [(guess, batch.features[row].float()) for guess, row in zip(guesses, rows, strict=True) if row >= 0]
            else:
                pairs = [(guesses[0], torch.stack(features).mean(dim=0))] if features else []
            losses += [1 - torch.cosine_similarity(guess, feature, dim=0) for guess, feature in pairs]
            count += len(guesses)
    assert torch.allclose(loss, torch.stack(losses).mean(), atol=1e-5)
    assert scalars["visible"].item() == pytest.approx(len(losses) / count)


def test_rollout_advances_the_state_once_a_frame(make_batch, monkeypatch):
    encoder, batch, states = build_encoder("point4d", "tiny"), make_batch(frames=6), []
    objective = make("forecast:rollout", encoder)
    monkeypatch.setattr(objective.dynamics, "forward", lambda state: state + 1)
    answer = objective.predictor.forward
    monkeypatch.setattr(objective.predictor, "forward", lambda tokens, *rest: states.append(tokens.features) or answer(tokens, *rest))
    objective(encoder, batch)
    first = encoder(batch.points[:, :3]).features
    assert len(states) == 3
    assert all(torch.allclose(state, first + step) for step, state in enumerate(states, 1))


def test_equal_views_are_consistent(make_batch):
    encoder, batch = build_encoder("point4d", "tiny"), make_batch(frames=4)
    objective = make("forecast:consistency", encoder)
    assert objective(encoder, batch)[1]["inconsistency"] > 0.01
    with torch.no_grad():
        objective.head.weight[CHANNELS:] = objective.head.weight[:CHANNELS]
        objective.head.bias[CHANNELS:] = objective.head.bias[:CHANNELS]
    assert objective(encoder, batch)[1]["inconsistency"].item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "views", "message"),
    [
        ("forecast:field+consistency", 2, "one of the two"),
        ("forecast:consistency", 1, "--views 2"),
        ("forecast:fields", 2, "field, rollout, consistency"),
        ("dense:field", 2, "no switch 'field'"),
    ],
)
def test_switches_that_cannot_work_are_refused(name, views, message):
    with pytest.raises(SettingsError, match=f"(?s){message}"):
        make(name, build_encoder("point4d", "tiny"), num_views=views)


def test_one_frame_cannot_be_forecast(make_batch):
    encoder = build_encoder("point4d", "tiny")
    with pytest.raises(SettingsError, match=r"(?s)one frame.*`clips.num_frames`"):
        make("forecast", encoder)(encoder, make_batch(frames=1))
