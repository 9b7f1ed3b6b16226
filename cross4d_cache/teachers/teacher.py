"""What every frozen teacher offers, and the windows in which it reads a sequence."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from cross4d_cache.teachers.weights.model import Normalisation
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


def normalise(
    images: Float32[Tensor, "window frame height width"], to: Normalisation | TeacherSpec
) -> Float32[Tensor, "window frame 3 height width"]:
    """Grey images in [0, 1] as a teacher's model expects them."""
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (to.mean, to.std))
    return (images[:, :, None] * to.scale - mean) / std


class Teacher(ABC):
    """A frozen 2D or video model. `spec.window` frames go in together; `spec.tubelet` of them share a token."""

    spec: TeacherSpec

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
