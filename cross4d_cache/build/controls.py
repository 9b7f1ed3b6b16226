"""Controls: stores whose points get other targets than their own, to tell what correspondence is worth (`types.CORRESPONDENCE`).

What is drawn depends on the seed, the sequence's id, the frame and the view alone, so not on how frames were batched.
"""

import zlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64, UInt16

from cross4d_cache.build.windows import SequenceWindow
from cross4d_cache.store import NOT_VISIBLE


def pixel_shift(correspondence: str) -> int:
    """How many pixels to the right of a point its patch is looked up."""
    rule, _, pixels = correspondence.partition(":")
    return int(pixels) if rule == "shifted" else 0


def shuffle(slots: UInt16[np.ndarray, "point view"], item: SequenceWindow, seed: int) -> UInt16[np.ndarray, "point view"]:
    """The slots of the frames a window owns, permuted among the points of each frame that a view sees, view by view."""
    shuffled, start = slots.copy(), 0
    for frame in item.window.frames[item.window.first_owned : item.window.end_owned]:
        end = start + item.sequence.count(frame)
        for column, rng in zip(shuffled[start:end].T, _streams(item, frame, slots.shape[1], seed), strict=True):
            visible = column != NOT_VISIBLE
            column[visible] = rng.permutation(column[visible])
        start = end
    return shuffled


def random_patches(item: SequenceWindow, num_views: int, num_patches: int, seed: int) -> Int64[np.ndarray, "view point"]:
    """A patch of the image for every point of every frame of a window, any with equal chance."""
    frames = [
        [rng.integers(num_patches, size=item.sequence.count(frame)) for rng in _streams(item, frame, num_views, seed)]
        for frame in item.window.frames
    ]
    return np.concatenate(frames, axis=1)


def _streams(item: SequenceWindow, frame: int, num_views: int, seed: int) -> Iterator[np.random.Generator]:
    """Random numbers for every view of a frame."""
    sequence = zlib.crc32(item.sequence.info.id.encode())
    # Views from 1: zeros at the end leave a seed as it is, and [seed, sequence] is the one that points are thinned by.
    return (np.random.default_rng([seed, sequence, frame, view + 1]) for view in range(num_views))
