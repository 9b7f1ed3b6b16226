"""Pre-training objectives, by name."""

from collections.abc import Callable

from cross4d_cache.errors import SettingsError
from cross4d_train.initialise import build_seeded
from cross4d_train.objectives.dense import Dense
from cross4d_train.objectives.objective import Objective, ObjectiveSettings

OBJECTIVES: dict[str, Callable[[ObjectiveSettings, int, int], Objective]] = {"dense": Dense}
"""How each objective is made from its settings, the width of the encoder and the width of the targets."""


def build_objective(settings: ObjectiveSettings, *, channels: int, target_channels: int, seed: int = 0) -> Objective:
    """An objective with an untrained head for an encoder of width `channels`; equal arguments give equal weights.

    Raises:
        SettingsError: unknown name.
    """
    if settings.name not in OBJECTIVES:
        raise SettingsError(
            f"unknown objective {settings.name!r}",
            expected=f"one of: {', '.join(OBJECTIVES)}",
            hint="choose one with --objective",
        )
    return build_seeded(lambda: OBJECTIVES[settings.name](settings, channels, target_channels), seed)
