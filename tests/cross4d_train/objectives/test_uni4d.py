import pytest
import torch

from cross4d_train.encoders import build_encoder
from cross4d_train.encoders.encoder import Tokens
from cross4d_train.objectives import build_objective
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.objectives.uni4d import QUEUE, frame_features
from tests.cross4d_train.conftest import TARGETS
from tests.cross4d_train.objectives.contract import BuiltInIntraModalContract


class TestUni4D(BuiltInIntraModalContract):
    name = "uni4d"


@pytest.fixture
def encoder():
    return build_encoder("point4d", "tiny")


@pytest.fixture
def objective(encoder):
    return build_objective(ObjectiveSettings(name="uni4d"), encoder, TARGETS)


def test_loss_is_the_sum_of_its_terms(encoder, objective, make_batch):
    loss, scalars = objective(encoder, make_batch(frames=6))
    assert list(scalars) == ["geometry", "latent", "motion", "global"]
    assert loss.item() == pytest.approx(sum(value.item() for value in scalars.values()), rel=1e-5)


def test_frames_keep_their_largest_features():
    features = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    frame = torch.tensor([[0, 0, 0, 2, 2, 2]] * 2)
    pooled = frame_features(Tokens(features=features, centroids=torch.zeros(2, 6, 3), frame=frame))
    assert torch.equal(pooled, torch.stack([features[:, :3].amax(dim=1), features[:, 3:].amax(dim=1)], dim=1))


def test_contrastive_terms_match_the_reference(encoder, objective):
    generator = torch.Generator().manual_seed(0)
    seen, known = torch.randn(2, 5, encoder.channels, generator=generator), torch.randn(2, 5, encoder.channels, generator=generator)
    losses = []
    for clip in range(2):
        for frame in range(4):
            guess = objective.motion_head(seen[clip, frame])
            scores = torch.stack([torch.cosine_similarity(guess, known[clip, other], dim=0) for other in range(1, 5)]) / 0.1
            losses.append(scores.logsumexp(0) - scores[frame])
    assert torch.allclose(objective._motion(seen, known), torch.stack(losses).mean(), atol=1e-4)
    own = torch.nn.functional.normalize(known[:, 0], dim=-1)
    losses = []
    for clip in range(2):
        guess = objective.global_head(seen[clip, 0])
        scores = torch.stack([torch.cosine_similarity(guess, other, dim=0) for other in (own[clip], *objective.queue[:500])]) / 0.1
        losses.append(scores.logsumexp(0) - scores[0])
    objective.queue = objective.queue[:500]
    assert torch.allclose(objective._global(seen[:, 0], own), torch.stack(losses).mean(), atol=1e-4)


def test_tokens_of_one_frame_have_no_motion(encoder, objective):
    features = torch.randn(2, 1, encoder.channels, requires_grad=True)
    loss = objective._motion(features, features.detach())
    loss.backward()
    assert loss == 0


def test_clips_of_a_step_enter_the_queue_once(encoder, objective, make_batch):
    before, batch = objective.queue.clone(), make_batch(clips=3)
    objective.eval()(encoder, batch)
    assert torch.equal(objective.queue, before)
    loss, _ = objective.train()(encoder, batch)
    loss.backward()  # of the queue as it was
    assert objective.queue.shape == (QUEUE, encoder.channels)
    assert torch.equal(objective.queue[3:], before[:-3])
    clips = frame_features(objective.target(batch.points)).amax(dim=1)
    assert torch.equal(objective.queue[:3], torch.nn.functional.normalize(clips, dim=-1))
    whole = objective.queue.clone()
    objective.finish_step(encoder, 0.2)
    assert torch.equal(objective.queue, whole)
