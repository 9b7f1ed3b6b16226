"""Pre-training objectives, by name."""

from cross4d_cache.errors import SettingsError
from cross4d_cache.options import value_of
from cross4d_cache.registry import Components
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.initialise import build_seeded
from cross4d_train.objectives.crossvideo import CrossVideo
from cross4d_train.objectives.dense import Dense
from cross4d_train.objectives.forecast import Forecast
from cross4d_train.objectives.global_distillation import GlobalDistillation
from cross4d_train.objectives.ijepa import IJEPA
from cross4d_train.objectives.mastpre import MaSTPre
from cross4d_train.objectives.objective import Objective, ObjectiveSettings, TargetSpec
from cross4d_train.objectives.uni4d import Uni4D
from cross4d_train.objectives.vicreg import VICReg

OBJECTIVES = Components[Objective](
    "objective",
    Objective,
    {
        "dense": Dense,
        "global": GlobalDistillation,
        "crossvideo": CrossVideo,
        "forecast": Forecast,
        "ijepa": IJEPA,
        "mastpre": MaSTPre,
        "uni4d": Uni4D,
        "vicreg": VICReg,
    },
)


def settled(settings: ObjectiveSettings) -> ObjectiveSettings:
    """Settings with options as values, not as the text that a command line has of them.

    Raises:
        SettingsError: unknown objective or option.
    """
    if not settings.options:
        return settings
    options = OBJECTIVES.find(settings.kind).parse(settings)
    return settings.model_copy(update={"options": {name: value_of(options, name) for name in sorted(settings.options)}})


def build_objective(settings: ObjectiveSettings, encoder: Encoder, targets: TargetSpec, seed: int = 0) -> Objective:
    """An objective with untrained heads and unfitted conditioning, for one encoder; equal arguments give equal weights.

    Raises:
        SettingsError: unknown name or switch, or a setting that does not suit the targets.
    """
    make = OBJECTIVES.find(settings.kind)
    unknown = [switch for switch in settings.switches if switch not in make.switches]
    if unknown:
        raise SettingsError(
            f"objective {settings.kind} has no switch {unknown[0]!r}",
            expected=f"some of: {', '.join(make.switches)}" if make.switches else "none",
            hint=f"choose `objective.name` {settings.kind}" + (f" or {settings.kind}:SWITCH+SWITCH" if make.switches else ""),
        )
    return build_seeded(lambda: make(settings, encoder, targets), seed)
