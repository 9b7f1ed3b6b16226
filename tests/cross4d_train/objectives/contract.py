"""What every objective must satisfy; a new one inherits this suite and names itself."""

from collections.abc import Callable

import pytest
import torch

from cross4d_train.conditioning import TargetStatistics
from cross4d_train.data import Batch
from cross4d_train.encoders import build_encoder
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.objectives import build_objective
from cross4d_train.objectives.objective import Objective, ObjectiveSettings
from tests.cross4d_train.conftest import CHANNELS, PATCHES

MakeBatch = Callable[..., Batch]


def make_statistics(num_patches: int) -> TargetStatistics:
    generator = torch.Generator().manual_seed(7)
    features = torch.randn(10, num_patches, CHANNELS, generator=generator, dtype=torch.float64) + 0.5
    flat = features.flatten(0, 1)
    return TargetStatistics(counts=torch.full((num_patches,), 10, dtype=torch.float64), sums=features.sum(dim=0), products=flat.T @ flat)


class ObjectiveContract:
    name: str
    conditionings: tuple[str, ...]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "conditioning" in metafunc.fixturenames:
            metafunc.parametrize("conditioning", self.conditionings)

    @pytest.fixture
    def encoder(self) -> Encoder:
        return build_encoder("point4d", "tiny")

    @pytest.fixture
    def objective(self, encoder: Encoder, conditioning: str) -> Objective:
        """An objective whose conditioning is that of other random targets than the batch has."""
        settings = ObjectiveSettings(name=self.name, conditioning=conditioning)
        objective = build_objective(settings, channels=encoder.channels, target_channels=CHANNELS, num_patches=PATCHES)
        num_patches = PATCHES if objective.source == "patches" else 1
        objective.conditioning.fit(make_statistics(num_patches))
        return objective

    def test_loss_is_finite_and_reaches_every_parameter(self, encoder: Encoder, objective: Objective, make_batch: MakeBatch) -> None:
        batch = make_batch()
        loss, scalars = objective(encoder(batch.points), batch)
        loss.backward()
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert all(not value.requires_grad and value.isfinite() for value in scalars.values())
        for name, parameter in [*encoder.named_parameters(), *objective.named_parameters()]:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name

    @pytest.mark.parametrize("rows", [20, 0])
    def test_no_visible_token_gives_zero_that_back_propagates(
        self, encoder: Encoder, objective: Objective, make_batch: MakeBatch, rows: int
    ) -> None:
        batch = make_batch(visible=0.0, rows=rows)
        loss, scalars = objective(encoder(batch.points), batch)
        loss.backward()
        assert loss == 0
        assert scalars["visible"] == 0
        for parameter in [*encoder.parameters(), *objective.parameters()]:
            assert parameter.grad is not None
            assert (parameter.grad == 0).all()

    def test_targets_get_no_gradient(self, encoder: Encoder, objective: Objective, make_batch: MakeBatch) -> None:
        batch = make_batch()
        batch.features.requires_grad_()
        batch.frame_features.requires_grad_()
        objective(encoder(batch.points), batch)[0].backward()
        assert batch.features.grad is None
        assert batch.frame_features.grad is None

    def test_loss_under_autocast_is_float32(self, encoder: Encoder, objective: Objective, make_batch: MakeBatch) -> None:
        batch = make_batch()
        plain, _ = objective(encoder(batch.points), batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed, _ = objective(encoder(batch.points), batch)
        assert mixed.dtype == torch.float32
        assert torch.allclose(mixed, plain, atol=0.05)
