"""Weights that were never trained: seeded random numbers."""

from collections.abc import Callable
from typing import TypeVar

import torch
from transformers import PreTrainedModel

from cross4d_cache.teachers.weights.digest import digest_of
from cross4d_cache.teachers.weights.model import LoadedModel, Preprocessing

Module = TypeVar("Module", bound=torch.nn.Module)


def load_random(build: Callable[[], PreTrainedModel], preprocessing: Preprocessing, seed: int) -> LoadedModel:
    """A model with untrained weights; see `build_random`."""
    model, digest = build_random(build, seed)
    return LoadedModel(model=model, preprocessing=preprocessing, label=f"random:{seed}", revision=None, sha256=digest)


def build_random(build: Callable[[], Module], seed: int) -> tuple[Module, str]:
    """A module with untrained weights, the same ones for the same seed, and their hash; the process's generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
    return model, digest_of(model)
