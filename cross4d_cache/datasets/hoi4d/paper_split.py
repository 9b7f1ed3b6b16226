"""Our version 1 of the 1,776 / 445 split of the Cross4D paper, which says the sizes but not the rule.

Its 2,221 sequences are as many as train1, train2 and train4 hold (750, 750, 721). They are ordered by the SHA-256 of their ids; the
first 1,776 are for training. So the split does not depend on which of them are present.
"""

import hashlib
from collections.abc import Mapping
from functools import cache

FILE_SIZES = {"train1": 750, "train2": 750, "train3": 750, "train4": 721, "test1": 500, "test2": 392}
"""Sequences of every challenge file."""
FILES = ("train1", "train2", "train4")
NUM_TRAIN = 1776


@cache
def paper_split_v1() -> Mapping[str, str]:
    """`train` or `test` for every id of the split."""
    ids = [sequence_id(file, number) for file in FILES for number in range(FILE_SIZES[file])]
    ranked = sorted(ids, key=lambda name: hashlib.sha256(name.encode()).digest())
    return {name: "train" if rank < NUM_TRAIN else "test" for rank, name in enumerate(ranked)}


def sequence_id(file: str, number: int) -> str:
    """The id of a sequence of a challenge file."""
    return f"{file}_{number:04d}"
