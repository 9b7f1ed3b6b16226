import pytest
import torch

from cross4d_train.encoders import build_encoder
from cross4d_train.objectives import build_objective
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.objectives.vicreg import covariance, variance
from tests.cross4d_train.conftest import TARGETS
from tests.cross4d_train.objectives.contract import BuiltInIntraModalContract


class TestVICReg(BuiltInIntraModalContract):
    name = "vicreg"


def test_terms_match_the_reference():
    embeddings = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 0.5, 1.0, 2.0, 0.0])
    shortfalls = [max(0.0, 1 - (float(column.var(correction=0)) + 1e-4) ** 0.5) for column in embeddings.T]
    assert variance(embeddings).item() == pytest.approx(sum(shortfalls) / 5)
    expected = sum(float(torch.cov(embeddings.T)[i, j]) ** 2 for i in range(5) for j in range(5) if i != j) / 5
    assert covariance(embeddings).item() == pytest.approx(expected, rel=1e-4)


def test_a_single_clip_has_a_finite_gradient(make_batch):
    encoder = build_encoder("point4d", "tiny")
    objective = build_objective(ObjectiveSettings(name="vicreg"), encoder, TARGETS)
    objective(encoder, make_batch(clips=1))[0].backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())
