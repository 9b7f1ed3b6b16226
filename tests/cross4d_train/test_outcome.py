import pytest
import torch

from cross4d_train.conditioning import TargetStatistics, constant_cosine
from cross4d_train.outcome import Outcome, cosine_of_constant
from tests.cross4d_train.test_loop import make_settings, make_training


def statistics(targets):
    return TargetStatistics(
        counts=torch.tensor([float(len(targets))]).double(), sums=targets.sum(0, keepdim=True), products=targets.T @ targets
    )


def test_the_cosine_of_a_constant_by_hand():
    """(4, 3) and (4, -3) have mean (4, 0); each is 5 long and has a cosine of 4 / 5 with it."""
    targets = torch.tensor([[4.0, 3.0], [4.0, -3.0]], dtype=torch.float64)
    assert constant_cosine(statistics(targets)) == pytest.approx(0.8)
    assert constant_cosine(statistics(torch.zeros(2, 2, dtype=torch.float64))) == 0


@pytest.mark.parametrize(
    ("first", "constant", "loss", "cosine", "num_epochs", "said"),
    [
        (1.9, 0.0, 0.5, 0.5, 16, None),
        (1.9, 0.0, 0.76, 0.24, 16, "cosine of the last epoch, 0.2400, is hardly above the 0.0000 of"),
        (1.9, 0.0, 0.75, 0.25, 16, None),
        (1.0, 0.8, 0.1, 0.9, 16, None),  # half of the .2 that a constant leaves
        (1.0, 0.8, 0.16, 0.84, 16, "cosine of the last epoch, 0.8400, is hardly above the 0.8000 of"),
        (0.5, 0.0, 0.5, 0.5, 16, "loss of the last epoch, 0.5000, is no lower than that of the first, 0.5000"),
        (0.5, 0.0, 0.5, 0.5, 1, None),  # the only epoch is the first and the last
        (None, 0.0, 0.5, 0.5, 16, None),
        (0.9, None, 0.8, None, 16, None),  # no teacher
        (0.9, None, 0.9, None, 16, "no lower than that of the first"),
    ],
)
def test_runs_that_end_as_failed_ones_do(first, constant, loss, cosine, num_epochs, said):
    found = Outcome(first_loss=first, constant_cosine=constant).failure(loss, cosine, num_epochs)
    assert found is None if said is None else said in found


@pytest.mark.parametrize(
    ("name", "conditioning", "least", "most"), [("dense", "center", 0, 0), ("dense", "none", 0.05, 0.95), ("ijepa", "none", None, None)]
)
def test_a_constant_predicts_what_conditioning_leaves(store, name, conditioning, least, most):
    settings = make_settings().changed({"objective.name": name, "objective.conditioning": conditioning})
    found = cosine_of_constant(make_training(store, settings))
    assert found is None if least is None else least <= found <= most
