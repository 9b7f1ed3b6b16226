"""Steps that give the same numbers every time on a GPU, at some cost. A CPU gives them without."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cross4d_cache.errors import SettingsError

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""cuBLAS reads it when it is first used. With either value its products do not depend on what else is computed."""
_WORKSPACES = (":4096:8", ":16:8")


def prepare(device: torch.device) -> None:
    """Before anything is computed on a GPU: let its matrix products repeat.

    Raises:
        SettingsError: the surroundings say otherwise.
    """
    if device.type == "cuda" and os.environ.setdefault(_WORKSPACE, _WORKSPACES[0]) not in _WORKSPACES:
        raise SettingsError(
            f"{_WORKSPACE}={os.environ[_WORKSPACE]} with `training.deterministic`",
            expected=f"one of: {', '.join(_WORKSPACES)}",
            hint="unset it",
        )


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Whatever is computed meanwhile repeats, if wanted: PyTorch takes the algorithms that do.

    Raises:
        SettingsError: it has none for something that is computed.
    """
    before, only_warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    if not wanted:
        yield
        return
    try:
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing here reads such memory
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise SettingsError(
            f"this encoder or objective computes what does not repeat on this device: {str(error).splitlines()[0]}",
            expected="operations with deterministic algorithms, as `training.deterministic` asks",
            hint="train without `training.deterministic`, in another folder",
        ) from error
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warned)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
