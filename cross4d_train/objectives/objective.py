"""What a pre-training objective is: tokens and the batch they came from in, one loss out."""

from abc import ABC, abstractmethod
from typing import TypedDict

from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Tokens


class Scalars(TypedDict):
    """What an objective reports beside its loss, each a detached scalar.

    `cosine` is the mean similarity of prediction and target, `variance` the unweighted variance term, `visible` the share of
    tokens that have a target.
    """

    cosine: Float32[Tensor, ""]
    variance: Float32[Tensor, ""]
    visible: Float32[Tensor, ""]


class ObjectiveSettings(BaseModel):
    """Which objective, and the weight of its variance term (lambda)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "dense"
    variance_weight: float = Field(default=1.0, ge=0, le=1_000_000, allow_inf_nan=False)


class Objective(nn.Module, ABC):
    """A pre-training objective with its own head.

    The loss is finite float32 whatever the batch: without any target it is zero and still back-propagates. Targets get no
    gradient.
    """

    @abstractmethod
    def forward(self, tokens: Tokens, batch: Batch) -> tuple[Float32[Tensor, ""], Scalars]:
        """The loss of a batch whose tokens the encoder made."""
