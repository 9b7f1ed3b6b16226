"""Weights that were never trained: seeded random numbers."""

from collections.abc import Callable

from transformers import PreTrainedModel

from cross4d_cache.teachers.parameters import build_random
from cross4d_cache.teachers.weights.model import LoadedModel, Preprocessing


def load_random(build: Callable[[], PreTrainedModel], preprocessing: Preprocessing, seed: int) -> LoadedModel:
    """A model with untrained weights; see `build_random`."""
    model, digest = build_random(build, seed)
    return LoadedModel(model=model, preprocessing=preprocessing, label=f"random:{seed}", revision=None, sha256=digest)
