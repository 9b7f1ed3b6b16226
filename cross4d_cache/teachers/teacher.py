"""What every frozen teacher offers, and the windows in which it reads a sequence."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from cross4d_cache.errors import TeacherError
from cross4d_cache.record import Record
from cross4d_cache.teachers.images import AS_THEY_ARE, Normalisation, normalise
from cross4d_cache.teachers.parameters import digest_of
from cross4d_cache.types import TeacherSpec


@dataclass(frozen=True, kw_only=True)
class TeacherFeatures:
    """Patch tokens after the final norm (patches row by row), and one global embedding of each tubelet."""

    tokens: Float32[Tensor, "window tubelet patch channel"]
    summary: Float32[Tensor, "window tubelet channel"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Frames of a sequence that a teacher sees together.

    `frames` may overlap the window before and may repeat the last frame; only the places `first_owned` to `end_owned` of it take
    their tokens from this window, so that every frame of the sequence takes them exactly once.
    """

    frames: tuple[int, ...]
    first_owned: int
    end_owned: int


def plan_windows(num_frames: int, window: int) -> list[Window]:
    """Cut a sequence into windows of equal length.

    The last window is moved back to end with the sequence, so that its frames see real neighbours; a sequence shorter than a window
    repeats its last frame.
    """
    if num_frames <= window:
        frames = tuple(min(t, num_frames - 1) for t in range(window))
        return [Window(frames=frames, first_owned=0, end_owned=num_frames)]
    windows = []
    for start in range(0, num_frames, window):
        begin = min(start, num_frames - window)
        windows.append(Window(frames=tuple(range(begin, begin + window)), first_owned=start - begin, end_owned=window))
    return windows


@dataclass(frozen=True, kw_only=True)
class TeacherChoice:
    """What is asked of a teacher by name; None is the teacher's own choice.

    `weights` is a hub id, a folder, a file, or `random`. `window` is how many frames a video teacher sees at once; one of images sees one.
    `dtype` is what it computes in; a teacher that has one of its own says so in its spec. `seed` is that of random weights. `options` are
    those of the class.
    """

    name: str
    weights: str | None = None
    image_size: int | None = None
    window: int = 16
    layer: int | None = None
    dtype: str = "float32"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    options: Any = None

    def describe(
        self,
        model: nn.Module,
        *,
        weights: str,
        image_size: int,
        patch_size: int,
        channels: int,
        tubelet: int = 1,
        window: int = 1,
        layer: int = 0,
        normalisation: Normalisation = AS_THEY_ARE,
    ) -> TeacherSpec:
        """What a store records of a teacher whose numbers are those of a model; its weights are hashed. `weights` says whence they are."""
        return TeacherSpec(
            name=self.name,
            weights=weights,
            sha256=digest_of(model),
            num_parameters=sum(parameter.numel() for parameter in model.parameters()),
            image_size=image_size,
            patch_size=patch_size,
            tubelet=tubelet,
            window=window,
            channels=channels,
            layer=layer,
            dtype=self.dtype,
            **asdict(normalisation),
        )

    def refuse(self, *settings: str) -> None:
        """Refuse what a teacher cannot do otherwise, of `weights`, `image_size` and `layer`.

        Raises:
            TeacherError: one of these was chosen.
        """
        chosen = [name for name in settings if getattr(self, name) is not None]
        if chosen:
            found = ", ".join(f"{name.replace('_', ' ')} {getattr(self, name)}" for name in chosen)
            hint = "leave out " + " and ".join(f"`teacher.{name}`" for name in chosen)
            raise TeacherError(f"{found} for teacher {self.name}, which has no choice of that", hint=hint)


class Teacher(ABC):
    """A frozen 2D or video model. `spec.window` frames go in together; `spec.tubelet` of them share a token.

    One of another package says in `load` how it is made; its name there is `choice.name`.
    """

    Options: ClassVar[type[Record]] = Record
    """What can be chosen about it beside what all teachers have; all fields have defaults, and a store records them."""
    spec: TeacherSpec

    @classmethod
    def load(cls, choice: TeacherChoice) -> "Teacher":
        """The teacher as it was asked for; `choice.options` are of the class `Options`.

        Raises:
            TeacherError: the weights cannot be had or do not fit, or something else that was chosen does not.
        """
        raise NotImplementedError(f"{cls.__name__}.load")

    def __init__(self, spec: TeacherSpec, device: torch.device) -> None:
        self.spec, self.device = spec, device

    @abstractmethod
    def forward(
        self, clips: Float32[Tensor, "window frame 3 height width"]
    ) -> tuple[Float[Tensor, "window tubelet patch channel"], Float[Tensor, "window tubelet channel"]]:
        """Patch tokens and global embeddings of normalised clips."""

    @torch.inference_mode()
    def __call__(self, images: Float32[Tensor, "window frame height width"]) -> TeacherFeatures:
        """Features of clips of grey images in [0, 1], all of the teacher's own size and number of frames."""
        clips = normalise(images, self.spec)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.spec.dtype == "bfloat16"):
            tokens, summary = self.forward(clips)
        return TeacherFeatures(tokens=tokens.float(), summary=summary.float())
