"""Your own recording: frames of points, and the clips of it that an encoder sees one after another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float32, Int64, Shaped
from scipy.spatial import KDTree
from torch import Tensor

from cross4d_cache.errors import SettingsError
from cross4d_train.clips import ClipSettings
from cross4d_train.dataset import choose_points

FAR_APART = 100
"""How many times as large as an encoder's reach a recording is at least before points without neighbours are taken for a wrong unit."""
LOOKED_AT = 256
"""Points whose neighbours are looked for."""

Points = TypeVar(
    "Points",
    Shaped[np.ndarray, "..."],
    Shaped[Tensor, "..."],
    list[Shaped[np.ndarray, "..."]],
    list[Shaped[Tensor, "..."]],
)
"""Values of all points of a recording: one array (frame, point, value), or a list with an array (point, value) for each frame. They come
from users, so the shape is not declared but checked."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A clip of a recording as an encoder sees it: the number of each of its frames, and which places of the clip count.

    Every frame of the recording counts in exactly one window.
    """

    frames: tuple[int, ...]
    counted: range


@dataclass(frozen=True, kw_only=True)
class RecordingTokens:
    """The tokens of a recording, frame after frame; centroids are input points, metres."""

    features: Float32[np.ndarray, "token channel"]
    centroids: Float32[np.ndarray, "token 3"]
    frames: Int64[np.ndarray, " token"]


class Recording:
    """The points of consecutive frames, metres, in axes and at the frame rate of the stores that an encoder learned from.

    Raises:
        SettingsError: no frames, a frame without points, another shape, whole numbers, or coordinates that are not finite.
    """

    def __init__(self, frames: Sequence[Shaped[np.ndarray, "..."]]) -> None:
        if len(frames) == 0:
            raise SettingsError(
                "a recording without frames",
                expected="at least one frame of points",
                hint="pass (frame, point, 3), or a list of (point, 3)",
            )
        self.frames = tuple(_checked(frame, number) for number, frame in enumerate(frames))

    @classmethod
    def of(cls, points: Points) -> "Recording":
        """The recording of one array or a list of arrays.

        Raises:
            SettingsError: as the class itself.
        """
        if isinstance(points, np.ndarray | Tensor) and points.ndim != 3:
            raise SettingsError(
                f"points of shape {tuple(points.shape)}",
                expected="(frames, points, 3), or a list of (points, 3)",
                hint="points[None] is a recording of a single frame",
            )
        return cls(arrays_of(points))

    def __len__(self) -> int:
        return len(self.frames)

    def check_unit(self, reach: float | None) -> None:
        """Refuse points that are all so far apart that an encoder, which first looks `reach` metres far, sees each of them alone.

        Looked at in the middle frame. A recording that is no more than `FAR_APART` times as large as the reach is sparse, not wrong.

        Raises:
            SettingsError: they are.
        """
        places = np.unique(self.frames[len(self) // 2], axis=0)
        diagonal = float(np.linalg.norm(places.max(axis=0).astype(np.float64) - places.min(axis=0)))
        if reach is None or len(places) < 2 or diagonal <= FAR_APART * reach:
            return
        some = places[np.linspace(0, len(places) - 1, min(len(places), LOOKED_AT)).astype(np.int64)]
        distances, _ = KDTree(places).query(some, k=[2])
        nearest = float(np.min(distances))
        if nearest > reach:
            raise SettingsError(
                f"points {nearest:,.2f} m from one another in a frame {diagonal:,.0f} m across; the encoder looks {reach:g} m far",
                expected="coordinates in metres",
                hint="multiply millimetres by 0.001",
            )

    def clip(self, window: Window, num_points: int) -> Float32[np.ndarray, "frame point 3"]:
        """The points of a window, `num_points` of each frame."""
        return np.stack([draw_points(self.frames[frame], num_points) for frame in window.frames])


def _checked(frame: Shaped[np.ndarray, "..."], number: int) -> Float32[np.ndarray, "point 3"]:
    if frame.ndim != 2 or frame.shape[1] != 3 or len(frame) == 0:
        found = "has no points" if frame.shape == (0, 3) else f"has the shape {frame.shape}"
        raise SettingsError(
            f"frame {number} of the recording {found}",
            expected="(points, 3), at least one point",
            hint="leave such frames out; one frame alone is points[None]",
        )
    if not np.issubdtype(frame.dtype, np.floating):
        raise SettingsError(
            f"frame {number} of the recording has coordinates of type {frame.dtype}",
            expected="float32, in metres",
            hint="convert them: whole numbers are mostly millimetres, points * np.float32(0.001)",
        )
    points = np.ascontiguousarray(frame, dtype=np.float32)
    if not np.isfinite(points).all():
        bad = int((~np.isfinite(points)).any(axis=1).sum())
        raise SettingsError(
            f"frame {number} of the recording has {bad} points that are NaN or infinite",
            expected="finite coordinates in metres",
            hint="leave these points out",
        )
    return points


def arrays_of(points: Points) -> list[Shaped[np.ndarray, "..."]]:
    """The values of each frame."""
    return [frame.detach().cpu().numpy() if isinstance(frame, Tensor) else np.asarray(frame) for frame in points]


def like(points: Points, values: list[Shaped[np.ndarray, "_ value"]]) -> Points:
    """Values of all points of a recording, as these points are given: one array or a list, of numpy or of torch, there on their device."""
    if isinstance(points, np.ndarray):
        return np.stack(values)
    if isinstance(points, Tensor):
        return torch.from_numpy(np.stack(values)).to(points.device)
    return [
        torch.from_numpy(value).to(frame.device) if isinstance(frame, Tensor) else value
        for frame, value in zip(points, values, strict=True)
    ]


def draw_points(points: Float32[np.ndarray, "_ 3"], num_points: int) -> Float32[np.ndarray, "{num_points} 3"]:
    """As many points of a frame, in random order as in training: without repeats if there are enough, else all of them and some again.

    Frames of equally many points always have the same rows drawn. So points that move a little, or on a grid, are the same points.
    """
    drawn: Float32[np.ndarray, "_ 3"] = points[choose_points(np.random.default_rng(0), len(points), num_points)]
    return drawn


def split(num_frames: int, clips: ClipSettings) -> Iterator[list[Window]]:
    """The windows of a recording, in groups: with each group the next frames of the recording are done.

    A window has the frames that a clip has in training: every `stride`-th, `num_frames` of them; so as many recordings as the stride lie
    one within another. Windows follow one another. The last one moves back until it ends with the recording, and frames that were seen
    before count where they were; in a recording that is too short the last frame repeats.
    """
    longest = len(range(0, num_frames, clips.stride))
    for first in range(0, longest, clips.num_frames):
        phases = [range(phase, num_frames, clips.stride) for phase in range(min(clips.stride, num_frames))]
        yield [_window(numbers, first, clips.num_frames) for numbers in phases if first < len(numbers)]


def _window(numbers: Sequence[int], first: int, length: int) -> Window:
    """The window in which the frame at place `first` of some frames is the first that counts."""
    start = max(0, min(first, len(numbers) - length))
    seen = tuple(numbers[start : start + length])
    return Window(frames=seen + seen[-1:] * (length - len(seen)), counted=range(first - start, len(seen)))
