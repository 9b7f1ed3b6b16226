"""What every objective promises, as a suite to inherit; `distillation` and `intra_modal` have more."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from cross4d_cache.testing.randomness import global_generators_untouched
from cross4d_train.data import Batch
from cross4d_train.encoders import ENCODERS, build_encoder
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.initialise import build_seeded
from cross4d_train.objectives.distillation import Distillation
from cross4d_train.objectives.objective import Objective, TargetSpec
from cross4d_train.testing.batch import TARGETS, random_batch, random_statistics

MakeObjective = Callable[[Encoder, TargetSpec], Objective]

ODD_BATCHES: dict[str, Callable[[], Batch]] = {
    "one clip": lambda: random_batch(clips=1),
    "no target that a point sees": lambda: random_batch(visible=0.0),
    "no target at all": lambda: random_batch(visible=0.0, rows=0),
    "coinciding points": lambda: replace(random_batch(), points=torch.ones(2, 3, 64, 3)),
}
"""Batches that come up in training, by what is odd about them."""


class ObjectiveContract:
    """Inherit `DistillationContract` of objectives with a teacher, `IntraModalContract` of all others, and override `make_objective`.

        class TestMine(IntraModalContract):
            @pytest.fixture
            def make_objective(self):
                return lambda encoder, targets: Mine(ObjectiveSettings(name="mine"), encoder, targets)

    Every test draws the weights of its layers by a seed, as training does, and fits the conditioning of a `Distillation`. Batches have 2
    clips of 3 frames of 64 points, and targets of 8 channels; the encoder is a small Point4D.

    No suite can tell whether an objective is the one that was published: compare its loss with one written out step by step.
    """

    encoders: ClassVar[tuple[str, ...]] = tuple(ENCODERS.built_in)
    """Encoders that it has to train."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Each encoder is a test of its own."""
        if "encoder_name" in metafunc.fixturenames:
            metafunc.parametrize("encoder_name", self.encoders)

    @pytest.fixture
    def make_objective(self) -> MakeObjective:
        """To be overridden: makes the objective for an encoder and the targets of a store."""
        raise NotImplementedError(
            f"{type(self).__name__} has to override the fixture `make_objective`: from encoder and targets to objective"
        )

    @pytest.fixture
    def made(self, make_objective: MakeObjective) -> Callable[[Encoder], Objective]:
        """Makes the objective as training does."""

        def make(encoder: Encoder) -> Objective:
            objective = build_seeded(lambda: make_objective(encoder, TARGETS), 0)
            if isinstance(objective, Distillation):
                objective.conditioning.fit(random_statistics(TARGETS.num_patches if objective.source == "patches" else 1))
            return objective

        return make

    @pytest.fixture
    def encoder(self) -> Encoder:
        """The encoder that is trained, but where all are."""
        return build_encoder("point4d", "tiny")

    @pytest.fixture
    def objective(self, made: Callable[[Encoder], Objective], encoder: Encoder) -> Objective:
        """The objective for it."""
        return made(encoder)

    def test_loss_is_finite_and_reaches_every_parameter(self, encoder: Encoder, objective: Objective) -> None:
        """One finite float32 number; beside it scalars without gradient; each parameter that is trained has a finite gradient."""
        loss, scalars = objective(encoder, random_batch())
        loss.backward()
        _check_scalar("the loss", loss)
        for name, value in scalars.items():
            _check_scalar(name, value)
            assert not value.requires_grad, f"{name} is detached; it requires a gradient"
        for name, parameter in _trained(encoder, objective).items():
            assert parameter.grad is not None, f"the loss reaches every parameter; not {name}"
            assert bool(parameter.grad.isfinite().all()), f"gradients are finite; not that of {name}"
            assert bool(parameter.grad.any()), f"the loss reaches every parameter; the gradient of {name} is zero"

    @pytest.mark.parametrize("odd", ODD_BATCHES)
    def test_loss_and_gradients_are_finite_whatever_the_batch(self, encoder: Encoder, objective: Objective, odd: str) -> None:
        """One NaN ends a run of days."""
        loss, _ = objective(encoder, ODD_BATCHES[odd]())
        _check_scalar(f"the loss of {odd}", loss)
        loss.backward()
        for name, parameter in _trained(encoder, objective).items():
            assert parameter.grad is None or bool(parameter.grad.isfinite().all()), f"of {odd}: the gradient of {name} is not finite"

    def test_trains_every_encoder(self, encoder_name: str, made: Callable[[Encoder], Objective]) -> None:
        """The loss of one batch falls; scalars keep their names."""
        encoder = build_encoder(encoder_name, "tiny", seed=1)
        objective, batch = made(encoder), random_batch(clips=3, frames=8)
        optimizer = torch.optim.AdamW(_trained(encoder, objective).values(), lr=3e-3)
        losses, names = [], set()
        for step in range(25):
            loss, scalars = objective(encoder, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            objective.finish_step(encoder, (step + 1) / 25)
            losses.append(loss.item())
            names.add(tuple(scalars))
        first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
        assert last < first, f"the loss of one batch falls in 25 steps; it went from {first:.4g} to {last:.4g}"
        assert len(names) == 1, f"scalars have the same names at every step; found {sorted(names)}"

    def test_equal_batches_have_equal_losses_and_global_random_state_stays(self, encoder: Encoder, objective: Objective) -> None:
        """What is random comes from the generator of the batch."""
        with global_generators_untouched("an objective"):
            objective(encoder, random_batch())
            objective.finish_step(encoder, 0.5)
            first, second = (objective.eval()(encoder, random_batch())[0] for _ in range(2))
        assert torch.equal(first, second), f"equal batches have equal losses; found {first.item()!r} and {second.item()!r}"

    def test_seed_decides_weights_and_leaves_global_state_alone(self, made: Callable[[Encoder], Objective], encoder: Encoder) -> None:
        """Heads are equal whatever was drawn in the process before.

        A seed draws the weights of torch's layers; a parameter of the objective's own has to begin as zeros or another constant.
        """
        first = made(encoder)
        with global_generators_untouched("making an objective"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            changed = _changed(first.state_dict(), made(encoder).state_dict())
        assert not changed, f"equal seeds give equal weights; unequal: {', '.join(changed)}"

    def test_evaluation_leaves_its_state_alone(self, encoder: Encoder, objective: Objective) -> None:
        """What a loss remembers of batches it remembers in training mode."""
        before = copy.deepcopy(objective.state_dict())
        objective.eval()(encoder, random_batch())
        changed = _changed(before, objective.state_dict())
        assert not changed, f"in evaluation mode the loss leaves the state alone; changed: {', '.join(changed)}"

    def test_encoder_and_batch_stay_as_they_are(self, encoder: Encoder, objective: Objective) -> None:
        """An objective moves no weight of the encoder, nor owns one: the optimiser would have it twice. It writes into no batch."""
        owned = {id(parameter) for parameter in encoder.parameters()} & {id(parameter) for parameter in objective.parameters()}
        assert not owned, f"an objective does not own the encoder; {len(owned)} of the encoder's parameters are among its own"
        before, batch = copy.deepcopy(encoder.state_dict()), random_batch()
        objective(encoder, batch)
        objective.finish_step(encoder, 0.5)
        changed = _changed(before, encoder.state_dict())
        assert not changed, f"an objective leaves the encoder alone; changed: {', '.join(changed)}"
        written = _changed(_tensors(random_batch()), _tensors(batch))
        assert not written, f"an objective leaves the batch alone; changed: {', '.join(written)}"

    def test_state_travels(self, encoder: Encoder, objective: Objective, made: Callable[[Encoder], Objective]) -> None:
        """What the steps changed in an objective is in its state, and nothing else is needed to resume."""
        batch = random_batch()
        objective(encoder, random_batch(seed=1))
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(0.05)
        objective.finish_step(encoder, 0.5)
        again = made(build_encoder("point4d", "tiny", seed=9))
        again.load_state_dict(copy.deepcopy(objective.state_dict()))
        resumed, kept = again(encoder, batch)[0], objective(encoder, batch)[0]
        assert torch.equal(resumed, kept), f"state_dict() has all that decides the loss; found {resumed.item()!r}, not {kept.item()!r}"

    def test_loss_under_autocast_is_float32(self, encoder: Encoder, objective: Objective) -> None:
        """On a GPU the network computes in bfloat16: the loss stays float32, and nearly what it was."""
        batch = random_batch()
        plain, _ = copy.deepcopy(objective)(encoder, batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed, _ = objective(encoder, batch)
        _check_scalar("the loss under autocast", mixed)
        assert torch.allclose(mixed, plain, atol=0.05, rtol=0.05), f"under autocast the loss is {mixed.item()}, without {plain.item()}"


def _check_scalar(name: str, value: Tensor) -> None:
    assert tuple(value.shape) == (), f"{name} is one number; found the shape {tuple(value.shape)}"
    assert value.dtype == torch.float32, f"{name} is float32; found {value.dtype}"
    assert bool(value.isfinite()), f"{name} is finite; found {value.item()}"


def _trained(encoder: Encoder, objective: Objective) -> dict[str, nn.Parameter]:
    """The parameters that training moves, by name."""
    named = [*encoder.named_parameters(prefix="encoder"), *objective.named_parameters(prefix="objective")]
    return {name: parameter for name, parameter in named if parameter.requires_grad}


def _tensors(batch: Batch) -> dict[str, Tensor]:
    return {item.name: value for item in fields(batch) if isinstance(value := getattr(batch, item.name), Tensor)}


def _changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that are other ones now."""
    return [name for name, value in after.items() if name not in before or not torch.equal(before[name], value)]
