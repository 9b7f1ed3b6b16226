"""Encoder and objective as the one module that Fabric trains."""

from jaxtyping import Float32
from torch import Tensor, nn

from cross4d_train.across import Devices
from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.objectives.objective import Objective, Scalars


class Sealed:
    """A batch that Fabric does not look into: it would cast all it finds to bfloat16, and coordinates do not survive that."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch


class TrainingModule(nn.Module):
    """An encoder and the objective that trains it."""

    def __init__(self, encoder: Encoder, objective: Objective, devices: Devices) -> None:
        super().__init__()
        self.encoder, self.objective, self._devices = encoder, objective, devices

    def forward(self, sealed: Sealed) -> tuple[Float32[Tensor, ""], Scalars]:
        """The loss of a batch that all devices have as a whole."""
        with self._devices.encoding_together(self):
            result: tuple[Tensor, Scalars] = self.objective(self.encoder, sealed.batch)
        return result
