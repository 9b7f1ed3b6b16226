"""Pre-training objectives, by name."""

from collections.abc import Callable

from cross4d_cache.errors import SettingsError
from cross4d_train.initialise import build_seeded
from cross4d_train.objectives.dense import Dense
from cross4d_train.objectives.objective import Objective, ObjectiveSettings
from cross4d_train.objectives.whole_clip import WholeClip

OBJECTIVES: dict[str, Callable[..., Objective]] = {"dense": Dense, "global": WholeClip}


def build_objective(settings: ObjectiveSettings, *, channels: int, target_channels: int, num_patches: int, seed: int = 0) -> Objective:
    """An objective with an untrained head and unfitted conditioning; equal arguments give equal weights.

    `channels` is the width of the encoder; targets have `target_channels`, and belong to `num_patches` patches over all views.

    Raises:
        SettingsError: unknown name, or a conditioning that does not suit the targets.
    """
    if settings.name not in OBJECTIVES:
        raise SettingsError(
            f"unknown objective {settings.name!r}",
            expected=f"one of: {', '.join(OBJECTIVES)}",
            hint="choose one with --objective",
        )
    make = OBJECTIVES[settings.name]
    return build_seeded(lambda: make(settings, channels=channels, target_channels=target_channels, num_patches=num_patches), seed)
