"""Choosing where stage one computes."""

import torch

from cross4d_cache.errors import SettingsError


def choose_device(name: str) -> torch.device:
    """The device a user names; `auto` takes CUDA where there is one.

    Raises:
        SettingsError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(
            f"device {name!r} cannot be used: {reason}", expected="auto, cpu, cuda or cuda:N", hint="pass --device cpu"
        ) from None
    return device
