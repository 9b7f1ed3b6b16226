"""What every objective must satisfy; a new one inherits one of these suites and names itself."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cross4d_train.conditioning import TargetStatistics
from cross4d_train.data import Batch
from cross4d_train.encoders import ENCODERS, build_encoder
from cross4d_train.encoders.encoder import Encoder, Tokens
from cross4d_train.objectives import build_objective
from cross4d_train.objectives.distillation import Distillation
from cross4d_train.objectives.objective import Objective, ObjectiveSettings
from tests.cross4d_train.conftest import CHANNELS, TARGETS

MakeBatch = Callable[..., Batch]


def make_statistics(num_patches: int) -> TargetStatistics:
    generator = torch.Generator().manual_seed(7)
    features = torch.randn(10, num_patches, CHANNELS, generator=generator, dtype=torch.float64) + 0.5
    flat = features.flatten(0, 1)
    return TargetStatistics(counts=torch.full((num_patches,), 10, dtype=torch.float64), sums=features.sum(dim=0), products=flat.T @ flat)


class FixedEncoder(Encoder):
    """Gives the same tokens whatever it sees."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self.tokens = tokens
        self.channels = tokens.features.shape[-1]

    def forward(self, points: torch.Tensor) -> Tokens:
        return self.tokens


class ObjectiveContract:
    """For all."""

    name: str
    conditionings: tuple[str, ...] = ("none",)
    encoders: tuple[str, ...] = tuple(ENCODERS.built_in)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "conditioning" in metafunc.fixturenames:
            metafunc.parametrize("conditioning", self.conditionings)
        if "encoder_name" in metafunc.fixturenames:
            metafunc.parametrize("encoder_name", self.encoders)

    @pytest.fixture
    def encoder(self) -> Encoder:
        return build_encoder("point4d", "tiny")

    @pytest.fixture
    def objective(self, encoder: Encoder, conditioning: str) -> Objective:
        """An objective whose conditioning, if it has one, is that of other random targets than the batch has."""
        return self.make(encoder, conditioning)

    def make(self, encoder: Encoder, conditioning: str) -> Objective:
        objective = build_objective(ObjectiveSettings(name=self.name, conditioning=conditioning), encoder, TARGETS)
        if isinstance(objective, Distillation):
            objective.conditioning.fit(make_statistics(TARGETS.num_patches if objective.source == "patches" else 1))
        return objective

    def test_loss_is_finite_and_reaches_every_parameter(self, encoder: Encoder, objective: Objective, make_batch: MakeBatch) -> None:
        batch = make_batch()
        loss, scalars = objective(encoder, batch)
        loss.backward()
        assert loss.dtype == torch.float32
        assert loss.shape == ()
        assert loss.isfinite()
        assert loss > 0
        assert all(not value.requires_grad and value.isfinite() and value.dtype == torch.float32 for value in scalars.values())
        for name, parameter in [*encoder.named_parameters(), *objective.named_parameters()]:
            if parameter.requires_grad:
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name
                assert parameter.grad.abs().sum() > 0, name

    def test_trains_every_encoder(self, encoder_name: str, make_batch: MakeBatch) -> None:
        """The loss of one batch falls; scalars keep their names."""
        encoder = build_encoder(encoder_name, "tiny", seed=1)
        objective, batch = self.make(encoder, self.conditionings[-1]), make_batch(clips=3, frames=8)
        trained = [parameter for parameter in [*encoder.parameters(), *objective.parameters()] if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=3e-3)
        losses, names = [], set()
        for step in range(25):
            loss, scalars = objective(encoder, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            objective.finish_step(encoder, (step + 1) / 25)
            losses.append(loss.item())
            names.add(tuple(scalars))
        assert sum(losses[-5:]) < sum(losses[:5])
        assert len(names) == 1

    def test_equal_batches_have_equal_losses_and_global_random_state_stays(
        self, encoder: Encoder, objective: Objective, make_batch: MakeBatch
    ) -> None:
        state = torch.random.get_rng_state()
        losses = [objective.eval()(encoder, make_batch())[0] for _ in range(2)]
        assert torch.equal(*losses)
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_state_travels(self, encoder: Encoder, objective: Objective, make_batch: MakeBatch) -> None:
        """What the steps changed in an objective is in its state, and nothing else is needed."""
        batch = make_batch()
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(0.05)
        objective.finish_step(encoder, 0.5)
        fresh = build_encoder("point4d", "tiny", seed=9)
        again = self.make(fresh, objective.conditioning.name if isinstance(objective, Distillation) else "none")
        again.load_state_dict(copy.deepcopy(objective.state_dict()))
        assert torch.equal(again(encoder, batch)[0], objective(encoder, batch)[0])

    def test_loss_under_autocast_is_float32(self, encoder: Encoder, objective: Objective, make_batch: MakeBatch) -> None:
        batch = make_batch()
        plain, _ = objective(encoder, batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed, _ = objective(encoder, batch)
        assert mixed.dtype == torch.float32
        assert torch.allclose(mixed, plain, atol=0.05, rtol=0.05)


class DistillationContract(ObjectiveContract):
    """For objectives with a teacher."""

    @pytest.mark.parametrize("rows", [20, 0])
    def test_no_visible_token_gives_zero_that_back_propagates(
        self, encoder: Encoder, objective: Objective, make_batch: MakeBatch, rows: int
    ) -> None:
        batch = make_batch(visible=0.0, rows=rows)
        loss, scalars = objective(encoder, batch)
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
        objective(encoder, batch)[0].backward()
        assert batch.features.grad is None
        assert batch.frame_features.grad is None

    def test_loss_depends_on_the_teacher(self, encoder: Encoder, objective: Objective, make_batch: MakeBatch) -> None:
        batch = make_batch()
        other = replace(batch, features=batch.features.flip(0), frame_features=batch.frame_features.flip(0))
        assert not torch.equal(objective(encoder, other)[0], objective(encoder, batch)[0])


class IntraModalContract(ObjectiveContract):
    """For objectives without a teacher."""

    def test_nothing_depends_on_the_teacher(self, encoder: Encoder, objective: Objective, make_batch: MakeBatch) -> None:
        batch = make_batch()
        blind = replace(
            batch,
            rows=torch.full_like(batch.rows, -1),
            features=batch.features[:0],
            patches=batch.patches[:0],
            frame_features=torch.zeros_like(batch.frame_features),
        )
        objective.eval()
        assert torch.equal(objective(encoder, blind)[0], objective(encoder, batch)[0])

    def test_another_key_draws_something_else(self, encoder: Encoder, objective: Objective, make_batch: MakeBatch) -> None:
        batch = make_batch()
        assert not torch.equal(objective(encoder, replace(batch, key=batch.key + 1))[0], objective(encoder, batch)[0])
