"""How far predicted labels and true ones overlap."""

from jaxtyping import Float64
from torch import Tensor


def iou(
    labelled: Float64[Tensor, " label"], predicted: Float64[Tensor, " label"], both: Float64[Tensor, " label"]
) -> Float64[Tensor, " label"]:
    """Intersection over union of every label, from how many items have it, are said to have it, and both; 0 for one that is nowhere."""
    return both / (labelled + predicted - both).clamp(min=1)
