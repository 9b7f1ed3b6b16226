"""An objective that keeps its promises passes the suites; one that breaks a promise falls by the check of it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from cross4d_train.objectives.distillation import Distillation
from cross4d_train.objectives.objective import Objective, ObjectiveSettings
from cross4d_train.testing import DistillationContract, IntraModalContract, ObjectiveContract
from tests.falling import checks, falling

pytest_plugins = ("pytester",)
SETTINGS = ObjectiveSettings(name="mine", conditioning="none")


class Locate(Objective):
    """From a shaken clip, where the middle of it is."""

    noise, steps = 0.01, 0

    def __init__(self, settings, encoder, targets):
        super().__init__(settings, encoder, targets)
        self.head = nn.Linear(encoder.channels, 3)

    def forward(self, encoder, batch):
        shaken = batch.points + self.noise * torch.randn(batch.points.shape, generator=batch.generator())
        found = self.head(encoder(shaken).features.float().mean(dim=1))
        loss = functional.mse_loss(found, batch.points[:, :, 0].mean(dim=1))
        return loss, {"distance": loss.detach().sqrt()}


class Embed(Distillation):
    """The mean of a clip's tokens predicts the mean of its targets."""

    source = "frames"

    def forward(self, encoder, batch):
        targets = self.conditioning(batch.frame_features.float().mean(dim=1))
        seen = (batch.rows >= 0).flatten(1).any(dim=1).float()
        return self.distil(self.head(encoder(batch.points).features.mean(dim=1)).float(), targets, seen)


def of(kind: type[Objective]) -> dict[str, Any]:
    def make_objective(self: object) -> Callable[..., Objective]:
        return lambda encoder, targets: kind(SETTINGS, encoder, targets)

    return {"make_objective": pytest.fixture(make_objective)}


class TestLocate(IntraModalContract):
    make_objective = of(Locate)["make_objective"]


class TestEmbed(DistillationContract):
    make_objective = of(Embed)["make_objective"]


def changed(kind: type[Objective] = Locate, **members: Any) -> dict[str, Any]:
    """The test class's fixture for an objective with other members."""
    return of(type(kind.__name__, (kind,), members))


def spoiled(change: Callable[..., Any], kind: type[Objective] = Locate) -> dict[str, Any]:
    """One whose loss and scalars are changed."""

    def forward(self, encoder, batch):
        return change(self, encoder, batch, *kind.forward(self, encoder, batch))

    return changed(kind, forward=forward)


def begun(change: Callable[..., None], kind: type[Objective] = Locate) -> dict[str, Any]:
    """One that has more members."""

    def begin(self, settings, encoder, targets):
        kind.__init__(self, settings, encoder, targets)
        change(self, encoder)

    return changed(kind, __init__=begin)


def with_unused_layer(self, encoder):
    self.unused = nn.Linear(2, 2)


def with_parameter(self, encoder):
    self.start = nn.Parameter(torch.randn(3), requires_grad=False)


def with_encoder(self, encoder):
    self.encoder = encoder


def remembering(self, encoder, batch, loss, scalars):
    if "last" not in self._buffers:
        self.register_buffer("last", torch.zeros(()))
    self.last.copy_(loss.detach())
    return loss, scalars


def renaming(self, encoder, batch, loss, scalars):
    self.steps += 1
    return loss, {f"distance {self.steps % 2}": scalars["distance"]}


def counting(self, encoder, progress):
    self.steps += 1


def rising(self, encoder, batch):
    loss, scalars = Locate.forward(self, encoder, batch)
    return loss + self.steps, scalars


def moving(self, encoder, progress):
    with torch.no_grad():
        next(encoder.parameters()).mul_(0.99)


def writing(self, encoder, batch, loss, scalars):
    batch.points.sub_(batch.points.mean())
    return loss, scalars


def stepping(self, encoder, batch, loss, scalars):
    self.calls = getattr(self, "calls", 0) + 1
    return loss * (1 + 1e-3 * self.calls), scalars


def divided(self, encoder, batch, loss, scalars):
    """By what is 0 for one clip, without targets, and for points that coincide."""
    return loss / ((len(batch) - 1) * (batch.rows >= 0).sum() * batch.points.var()), scalars


def in_half(self, encoder, batch, loss, scalars):
    return loss.to(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32), scalars


def sharp(self, encoder, batch, loss, scalars):
    points = batch.points[0, 0]
    return loss + 1000 * ((points @ torch.eye(3)).float() - points).abs().sum(), scalars


def from_targets(self, encoder, batch, loss, scalars):
    return loss + batch.frame_features.float().abs().sum(), scalars


def blind(self, encoder, batch):
    found = self.head(encoder(batch.points).features.mean(dim=1)).float()
    return self.distil(found, torch.ones_like(found), torch.ones(len(batch)))


def unfrozen(self, encoder, batch):
    seen = (batch.rows >= 0).flatten(1).any(dim=1).float()
    return self.distil(self.head(encoder(batch.points).features.mean(dim=1)).float(), batch.frame_features.float().mean(dim=1), seen)


def partial(self, encoder, batch, loss, scalars):
    return (loss, scalars) if scalars["visible"] else (loss.detach() + 0 * self.head.bias.sum(), scalars)


REACHES = "loss_is_finite_and_reaches_every_parameter"
EQUAL = "equal_batches_have_equal_losses_and_global_random_state_stays"
ALONE = "encoder_and_batch_stay_as_they_are"
BROKEN = {
    "Vector": (
        REACHES,
        "is one number",
        spoiled(lambda self, encoder, batch, loss, scalars: (loss.expand(1).sum(0, keepdim=True), scalars)),
    ),
    "Double": (REACHES, "float64", spoiled(lambda self, encoder, batch, loss, scalars: (loss.double(), scalars))),
    "Attached": (REACHES, "detached", spoiled(lambda self, encoder, batch, loss, scalars: (loss, {"loss": loss}))),
    "Integer": (REACHES, "int64", spoiled(lambda self, encoder, batch, loss, scalars: (loss, {"count": torch.tensor(3)}))),
    "Unused": (REACHES, "not objective.unused.weight", begun(with_unused_layer)),
    "Divided": ("loss_and_gradients_are_finite_whatever_the_batch", "is finite", spoiled(divided)),
    "Rising": ("trains_every_encoder", "falls in 25 steps", changed(finish_step=counting, forward=rising)),
    "Renaming": ("trains_every_encoder", "same names", spoiled(renaming)),
    "Drawing": (EQUAL, "torch", spoiled(lambda self, encoder, batch, loss, scalars: (loss * torch.rand(()), scalars))),
    "Stepping": (EQUAL, "equal batches", spoiled(stepping)),
    "OwnParameter": ("seed_decides_weights_and_leaves_global_state_alone", "unequal: start", begun(with_parameter)),
    "Remembering": ("evaluation_leaves_its_state_alone", "changed: last", spoiled(remembering)),
    "Owning": (ALONE, "does not own", begun(with_encoder)),
    "Moving": (ALONE, "leaves the encoder alone", changed(finish_step=moving)),
    "Writing": (ALONE, "changed: points", spoiled(writing)),
    "Counting": ("state_travels", "has all that decides", changed(finish_step=counting, forward=rising)),
    "Half": ("loss_under_autocast_is_float32", "bfloat16", spoiled(in_half)),
    "Sharp": ("loss_under_autocast_is_float32", "under autocast the loss is", spoiled(sharp)),
    "Taught": ("nothing_depends_on_the_teacher", "it differs", spoiled(from_targets)),
    "Constant": ("another_key_draws_something_else", "the loss is equal", changed(noise=0.0)),
    "Blind": ("no_visible_token_gives_zero_that_back_propagates", "the loss is 0", changed(Embed, forward=blind)),
    "Partial": ("no_visible_token_gives_zero_that_back_propagates", "has none", spoiled(partial, Embed)),
    "Unfrozen": ("targets_get_no_gradient", "frame_features have one", changed(Embed, forward=unfrozen)),
    "Deaf": ("loss_depends_on_the_teacher", "it is the same", changed(Embed, forward=blind)),
}
for name, (check, says, members) in BROKEN.items():
    contract = DistillationContract if f"test_{check}" in vars(DistillationContract) else IntraModalContract
    one_encoder = {"encoders": ("point4d",)}
    globals().update(falling(contract, {name: (f"test_{check}", says, members | one_encoder)}))


def test_a_broken_objective_falls_by_every_check() -> None:
    assert {f"test_{check}" for check, _, _ in BROKEN.values()} == checks(ObjectiveContract, DistillationContract, IntraModalContract)


def test_who_says_nothing_is_told_what_to_override(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("from cross4d_train.testing import IntraModalContract\nclass TestMine(IntraModalContract): pass")
    ended = pytester.runpytest("-q", "-k", "autocast")
    ended.assert_outcomes(errors=1)
    ended.stdout.fnmatch_lines(["*TestMine has to override the fixture `make_objective`: from encoder and targets to objective"])
