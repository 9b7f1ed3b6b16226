"""What objectives with a teacher promise beside what all do."""

from dataclasses import replace

import pytest
import torch

from cross4d_train.encoders.encoder import Encoder
from cross4d_train.objectives.objective import Objective
from cross4d_train.testing.batch import random_batch
from cross4d_train.testing.objective import ObjectiveContract


class DistillationContract(ObjectiveContract):
    """For objectives with a teacher, which learn the targets of a store."""

    @pytest.mark.parametrize("rows", [20, 0])
    def test_no_visible_token_gives_zero_that_back_propagates(self, encoder: Encoder, objective: Objective, rows: int) -> None:
        """A batch without a target teaches nothing, and does not end the run."""
        loss, scalars = objective(encoder, random_batch(visible=0.0, rows=rows))
        loss.backward()
        assert loss == 0, f"without any target the loss is 0; found {loss.item()}"
        assert scalars["visible"] == 0, f"without any target `visible` is 0; found {scalars['visible'].item()}"
        for name, parameter in [*encoder.named_parameters(), *objective.named_parameters()]:
            assert parameter.grad is not None, f"without any target every gradient is 0; {name} has none"
            assert not bool(parameter.grad.any()), f"without any target every gradient is 0; not that of {name}"

    def test_targets_get_no_gradient(self, encoder: Encoder, objective: Objective) -> None:
        """The teacher is frozen."""
        batch = random_batch()
        batch.features.requires_grad_()
        batch.frame_features.requires_grad_()
        objective(encoder, batch)[0].backward()
        assert batch.features.grad is None, "targets get no gradient; features have one"
        assert batch.frame_features.grad is None, "targets get no gradient; frame_features have one"

    def test_loss_depends_on_the_teacher(self, encoder: Encoder, objective: Objective) -> None:
        """Other targets give another loss."""
        batch = random_batch()
        other = replace(batch, features=batch.features.flip(0), frame_features=batch.frame_features.flip(0))
        assert not torch.equal(objective(encoder, other)[0], objective(encoder, batch)[0]), (
            "other targets give another loss; it is the same"
        )
