import math

import pytest
import torch

from cross4d_cache.errors import SettingsError
from cross4d_train.encoders import build_encoder
from cross4d_train.encoders.encoder import Encoder, Tokens
from cross4d_train.objectives import build_objective
from cross4d_train.objectives.distillation import EPSILON
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.token_targets import match_points
from tests.cross4d_train.conftest import CHANNELS, TARGETS
from tests.cross4d_train.objectives.contract import BuiltInDistillationContract


class TestDense(BuiltInDistillationContract):
    name = "dense"
    conditionings = ("none", "center", "whiten:4", "center-patch", "whiten-patch:4")


class FixedEncoder(Encoder):
    """Gives the same tokens whatever it sees."""

    def __init__(self, tokens):
        super().__init__()
        self.tokens = tokens
        self.channels = tokens.features.shape[-1]

    def forward(self, points):
        return self.tokens


def make_tokens(batch, count=10, seed=1):
    """Tokens of any frames in any number, as an encoder with a temporal stride may have."""
    generator = torch.Generator().manual_seed(seed)
    num_clips, num_frames = batch.points.shape[:2]
    return Tokens(
        features=torch.randn(num_clips, count, 16, generator=generator),
        centroids=torch.randn(num_clips, count, 3, generator=generator) * 0.4 + 2,
        frame=torch.randint(num_frames, (num_clips, count), generator=generator),
    )


def reference_loss(objective, tokens, batch, weight):
    """Equations 4-6 token by token."""
    losses, predictions = [], []
    for clip in range(len(batch)):
        for token in range(tokens.features.shape[1]):
            frame = int(tokens.frame[clip, token])
            distances = (batch.points[clip, frame] - tokens.centroids[clip, token]).norm(dim=-1)
            rows = [row for row in batch.rows[clip, frame, int(distances.argmin())].tolist() if row >= 0]
            if not rows:
                continue
            target = torch.stack([batch.features[row].float() for row in rows]).mean(dim=0)
            prediction = objective.head(tokens.features[clip, token])
            losses.append(1 - torch.dot(prediction, target) / (prediction.norm() * target.norm()))
            predictions.append(prediction)
    stacked = torch.stack(predictions)
    spread = torch.stack([math.nan * torch.ones(())] * CHANNELS)
    for channel in range(CHANNELS):
        spread[channel] = (1 - (stacked[:, channel].var(correction=0) + EPSILON).sqrt()).clamp(min=0)
    return torch.stack(losses).mean() + weight * spread.mean(), len(losses) / tokens.frame.numel()


@pytest.mark.parametrize("weight", [0.0, 1.0, 0.3])
def test_loss_matches_the_reference(make_batch, weight):
    batch = make_batch()
    tokens = make_tokens(batch)
    settings = ObjectiveSettings(variance_weight=weight, conditioning="none")
    objective = build_objective(settings, FixedEncoder(tokens), TARGETS)
    loss, scalars = objective(FixedEncoder(tokens), batch)
    expected, share = reference_loss(objective, tokens, batch, weight)
    assert torch.allclose(loss, expected, atol=1e-5)
    assert scalars["visible"] == pytest.approx(share)
    assert loss.item() == pytest.approx(1 - scalars["cosine"].item() + weight * scalars["variance"].item(), abs=1e-5)


def test_tokens_are_matched_within_their_own_frame(make_batch):
    batch = make_batch(frames=4)
    frame = torch.tensor([[3, 0, 0, 2], [1, 1, 1, 1]])
    points = torch.tensor([[5, 6, 7, 63], [0, 9, 9, 1]])
    centroids = batch.points[torch.arange(2).unsqueeze(1), frame, points]
    tokens = Tokens(features=torch.zeros(2, 4, 1), centroids=centroids, frame=frame)
    assert torch.equal(match_points(tokens, batch.points), points)


def test_perfect_predictions_have_no_cosine_loss(make_batch):
    batch = make_batch(views=1, visible=1.0)
    settings = ObjectiveSettings(variance_weight=0, conditioning="none")
    features = batch.features.float()[batch.rows[:, 0, :5, 0].long()]
    encoder = FixedEncoder(Tokens(features=features, centroids=batch.points[:, 0, :5], frame=torch.zeros(2, 5, dtype=torch.int64)))
    objective = build_objective(settings, encoder, TARGETS)
    with torch.no_grad():
        objective.head.weight.copy_(torch.eye(CHANNELS))
        objective.head.bias.zero_()
    assert objective(encoder, batch)[0].item() == pytest.approx(0, abs=1e-5)


def test_unknown_objective_lists_the_known_ones():
    with pytest.raises(SettingsError, match="dense, global"):
        build_objective(ObjectiveSettings(name="nonsense"), build_encoder("point4d", "tiny"), TARGETS)
