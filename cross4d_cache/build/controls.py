"""Controls: stores whose points get other targets than their own, to tell what correspondence contributes (`types.CORRESPONDENCE`)."""

import numpy as np
from jaxtyping import Int64, UInt16

from cross4d_cache.build.windows import SequenceWindow
from cross4d_cache.store.controls import shuffle_frame, streams


def pixel_shift(correspondence: str) -> int:
    """How many pixels to the right of a point its patch is looked up."""
    rule, _, pixels = correspondence.partition(":")
    return int(pixels) if rule == "shifted" else 0


def shuffle(slots: UInt16[np.ndarray, "point view"], item: SequenceWindow, seed: int) -> UInt16[np.ndarray, "point view"]:
    """The slots of the frames a window owns, permuted among the points of each frame that a view sees, view by view."""
    frames = item.window.frames[item.window.first_owned : item.window.end_owned]
    ends = np.cumsum([item.sequence.count(frame) for frame in frames])
    pieces = zip(frames, np.split(slots, ends[:-1]), strict=True)
    return np.concatenate([shuffle_frame(piece, item.sequence.info.id, frame, seed) for frame, piece in pieces])


def random_patches(item: SequenceWindow, num_views: int, num_patches: int, seed: int) -> Int64[np.ndarray, "view point"]:
    """A patch of the image for every point of every frame of a window, any with equal chance."""
    frames = [
        [rng.integers(num_patches, size=item.sequence.count(frame)) for rng in streams(item.sequence.info.id, frame, num_views, seed)]
        for frame in item.window.frames
    ]
    return np.concatenate(frames, axis=1)
