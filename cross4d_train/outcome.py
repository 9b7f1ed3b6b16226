"""What a finished run's last epoch is to be compared with: its first one, and what a prediction that is always the same would score."""

from cross4d_cache.record import Record
from cross4d_train.conditioning import constant_cosine, gather_statistics
from cross4d_train.loop import Pretraining
from cross4d_train.objectives.distillation import Distillation

LEAST_SHARE = 0.25
"""Of the cosine that a constant leaves to be gained; chosen, not derived. Less means that hardly anything of a clip was learned."""


class Outcome(Record):
    """The mean loss of the first epoch, None if its log is gone, and the cosine that a constant has, None if there are no targets.

    Only a run that trained nothing is told by these: one that trained half as well as it could is known by the loss of other seeds.
    """

    first_loss: float | None
    constant_cosine: float | None

    def failure(self, loss: float, cosine: float | None, num_epochs: int) -> str | None:
        """How a run with this loss and this cosine in its last epoch resembles failed ones, if it does."""
        if self.first_loss is not None and num_epochs > 1 and loss >= self.first_loss:
            return f"the loss of the last epoch, {loss:.4f}, is no lower than that of the first, {self.first_loss:.4f}"
        if self.constant_cosine is None or cosine is None:
            return None
        if cosine - self.constant_cosine < LEAST_SHARE * (1 - self.constant_cosine):
            return f"the cosine of the last epoch, {cosine:.4f}, is hardly above the {self.constant_cosine:.4f} of a constant prediction"
        return None


def cosine_of_constant(training: Pretraining) -> float | None:
    """The cosine that the mean target has with the targets of a run, 0 where conditioning takes it away.

    Raises:
        CacheCorruptError: the store cannot be read.
    """
    objective = training.objective
    if not isinstance(objective, Distillation):
        return None
    if not objective.conditioning.is_identity:
        return 0.0
    return constant_cosine(gather_statistics(training.dataset.cache, training.plan.chosen, objective.source))
