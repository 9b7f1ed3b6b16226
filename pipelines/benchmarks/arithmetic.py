"""What a teacher computes: how many operations, and how much bfloat16 rounds."""

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float32
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cross4d_cache.teachers.teacher import Teacher


def flops_per_batch(teacher: Teacher, images: Float32[Tensor, "window frame height width"]) -> int:
    """Floating point operations of matrix products and convolutions in one forward pass, a multiplication and an addition as two.

    The counter does not know every fused attention kernel, so attention and encoder layers are run as the plain products they consist of.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            teacher(images)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops())


def bfloat16_cosine(teacher: Teacher, images: Float32[Tensor, "window frame height width"]) -> dict[str, float]:
    """Cosine between the patch features of the same images in bfloat16 (autocast) and in float32: mean and minimum."""
    rounded, exact = (_in_dtype(teacher, dtype)(images).tokens.flatten(0, 2).double() for dtype in ("bfloat16", "float32"))
    cosine = F.cosine_similarity(rounded, exact, dim=1)[exact.any(dim=1)]  # tiny gives zeros for empty patches
    return {"mean": float(cosine.mean()), "minimum": float(cosine.min())}


def _in_dtype(teacher: Teacher, dtype: str) -> Teacher:
    other = copy.copy(teacher)
    other.spec = teacher.spec.model_copy(update={"dtype": dtype})
    return other
