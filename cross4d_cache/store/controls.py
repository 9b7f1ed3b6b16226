"""What controls draw at random (`types.CORRESPONDENCE`): it depends on the seed, the sequence's id, the frame and the view alone.

So neither how frames were batched nor whether a store was built or derived changes a draw.
"""

import zlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt16

from cross4d_cache.store.part import NOT_VISIBLE


def streams(sequence: str, frame: int, num_views: int, seed: int) -> Iterator[np.random.Generator]:
    """Random numbers for every view of a frame of the sequence with this id."""
    name = zlib.crc32(sequence.encode())
    # Views from 1: zeros at the end leave a seed as it is, and [seed, sequence] is the one that points are thinned by.
    return (np.random.default_rng([seed, name, frame, view + 1]) for view in range(num_views))


def shuffle_frame(slots: UInt16[np.ndarray, "point view"], sequence: str, frame: int, seed: int) -> UInt16[np.ndarray, "point view"]:
    """The slots of one frame, permuted in every view among the points that it sees."""
    shuffled = slots.copy()
    for column, rng in zip(shuffled.T, streams(sequence, frame, slots.shape[1], seed), strict=True):
        visible = column != NOT_VISIBLE
        column[visible] = rng.permutation(column[visible])
    return shuffled
