"""What objectives without a teacher promise beside what all do."""

from dataclasses import replace

import torch

from cross4d_train.encoders.encoder import Encoder
from cross4d_train.objectives.objective import Objective
from cross4d_train.testing.batch import random_batch
from cross4d_train.testing.objective import ObjectiveContract


class IntraModalContract(ObjectiveContract):
    """For objectives without a teacher, which learn from points alone."""

    def test_nothing_depends_on_the_teacher(self, encoder: Encoder, objective: Objective) -> None:
        """Without targets the loss is the same."""
        batch = random_batch()
        blind = replace(
            batch,
            rows=torch.full_like(batch.rows, -1),
            features=batch.features[:0],
            patches=batch.patches[:0],
            frame_features=torch.zeros_like(batch.frame_features),
        )
        objective.eval()
        assert torch.equal(objective(encoder, blind)[0], objective(encoder, batch)[0]), "without targets the loss is the same; it differs"

    def test_another_key_draws_something_else(self, encoder: Encoder, objective: Objective) -> None:
        """What is random follows the key of the batch: a constant seed would mask the same tubes at every step."""
        batch = random_batch()
        other = replace(batch, key=batch.key + 1)
        assert not torch.equal(objective(encoder, other)[0], objective(encoder, batch)[0]), (
            "another key draws other numbers; the loss is equal"
        )
