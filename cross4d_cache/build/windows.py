"""The windows in which a teacher reads a prepared sequence."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from cross4d_cache.build.preparation import PreparedSequence
from cross4d_cache.errors import Cross4DError
from cross4d_cache.rendering.camera import SequenceViews
from cross4d_cache.teachers.teacher import Window, plan_windows
from cross4d_cache.types import RenderSettings


@dataclass(frozen=True, kw_only=True)
class SequenceWindow:
    """A window of a prepared sequence, and the cameras that see its frames."""

    sequence: PreparedSequence
    window: Window
    views: SequenceViews


def windows_of(sequence: PreparedSequence, render: RenderSettings, num_frames: int) -> Iterator[SequenceWindow]:
    """Every window of `num_frames` frames in order; none reaches from one camera window into the next."""
    length = sequence.info.num_frames
    for camera_window, frames in groupby(range(length), lambda frame: render.camera_window(frame, length)):
        first, *others = frames
        for window in plan_windows(1 + len(others), num_frames):
            moved = replace(window, frames=tuple(first + frame for frame in window.frames))
            yield SequenceWindow(sequence=sequence, window=moved, views=sequence.views[camera_window])


def batches(windows: Iterable[SequenceWindow], size: int) -> Iterator[list[SequenceWindow]]:
    """Batches of `size` windows across sequences; the last may be shorter, also the one before an error."""
    batch: list[SequenceWindow] = []
    try:
        for window in windows:
            batch.append(window)
            if len(batch) == size:
                yield batch
                batch = []
    except Cross4DError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
