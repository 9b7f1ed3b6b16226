"""The identity of a model's numbers."""

import hashlib

from torch import nn


def digest_of(model: nn.Module) -> str:
    """SHA-256 of the weights of a model, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
