"""The numbers of a model: those that a seed gives, and their identity."""

import hashlib
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def build_random(build: Callable[[], Module], seed: int) -> tuple[Module, str]:
    """A module with untrained weights, the same ones for the same seed, and their hash; the process's generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
    return model, digest_of(model)


def digest_of(model: nn.Module) -> str:
    """SHA-256 of the weights of a model, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
