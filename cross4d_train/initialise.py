"""Starting weights, a pure function of a seed: no global random state is read or moved."""

import math
from collections.abc import Callable
from typing import Annotated, TypeVar

import torch
from pydantic import Field
from torch import nn

Module = TypeVar("Module", bound=nn.Module)

Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""A seed that torch and numpy both take."""


def build_seeded(make: Callable[[], Module], seed: int) -> Module:
    """A module with starting weights of that seed."""
    with torch.random.fork_rng(devices=[]):  # torch's layers draw weights of their own when they are made
        module = make()
    initialise(module, seed)
    return module


@torch.no_grad()
def initialise(module: nn.Module, seed: int) -> None:
    """Draw the weights of every linear layer, uniform with variance 1 / inputs, so that activations keep their size.

    Biases are drawn too: without them a ReLU network of offsets is homogeneous, and the norm after it erases distance. Parameters of a
    module's own, outside of layers, stay as they were made, and so do frozen layers.

    Raises:
        TypeError: a layer with parameters this function does not know.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        own = list(layer.parameters(recurse=False))
        if not any(parameter.requires_grad for parameter in own):
            continue
        if isinstance(layer, nn.Linear):
            bound = math.sqrt(3 / layer.in_features)
            layer.weight.uniform_(-bound, bound, generator=generator)
            if layer.bias is not None:
                layer.bias.uniform_(-bound / math.sqrt(3), bound / math.sqrt(3), generator=generator)
        elif isinstance(layer, nn.LayerNorm | nn.BatchNorm1d):
            layer.reset_parameters()
        elif type(layer).__module__.startswith("torch."):
            raise TypeError(f"no starting weights are defined for {type(layer).__name__}")
