"""Which frames of a clip a spatio-temporal kernel sees."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from cross4d_cache.errors import SettingsError
from cross4d_cache.record import Record
from cross4d_cache.types import Count, Size


class Kernel(Record):
    """How many frames (an odd number), every how many frames one stands, and how many are added before and after the clip, at most half
    of its size."""

    size: Size = 1
    stride: Size = 1
    padding: tuple[Count, Count] = (0, 0)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """For each place of the kernel the frame it stands at and those it sees; added frames are the nearest of the clip, not `inside`."""

    anchors: Int64[Tensor, " window"]
    frames: Int64[Tensor, "window place"]
    inside: Bool[Tensor, "window place"]


def windows(num_frames: int, kernel: Kernel, device: torch.device) -> Windows:
    """All places of a kernel in a clip, as in a convolution: frames at the end that no whole kernel reaches are left out.

    Raises:
        SettingsError: the clip is shorter than the kernel.
    """
    before, after = kernel.padding
    reach = kernel.size // 2
    least = kernel.size - before - after
    if num_frames < least:
        raise SettingsError(
            f"clips of {num_frames} frames",
            expected=f"at least {least}, for this encoder",
            hint="raise `clips.num_frames`, or choose another `encoder.name`",
        )
    anchors = torch.arange(reach - before, num_frames + after - reach, kernel.stride, device=device)
    frames = anchors.unsqueeze(1) + torch.arange(-reach, reach + 1, device=device)
    inside = (frames >= 0) & (frames < num_frames)
    return Windows(anchors=anchors, frames=frames.clamp(0, num_frames - 1), inside=inside)
