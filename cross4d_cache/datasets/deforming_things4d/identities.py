"""The animals of DeformingThings4D: identities, categories, and a split in which no identity is on both sides.

The identities are as users of the release list them; they have not been checked against the data itself. A category is the run of
lower-case letters with which an identity begins, which gives the 38 of the paper.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from itertools import groupby

_IDENTITIES = """
    bear3EP bear84Q bear9AK bearPDD bearVGG bucksYJL bullMJ6 bunnyQ canieLTT catBG cattleAFK cetaceaUW chickenDC crocodileOPW
    deer2MB deerA4K deerFEL deerK5L deerLO1 deerOMG deerSPL deerVMW dinoBDK dinoET doggieMN5 dragonOF2 dragonOLO dragonQKS duck
    elephantLN0 elkML foxWDFS foxXAT foxYSY foxZED goatS4J6Y grizzRSS hippoDG hogRD huskydog3T leopardSLM lionessHTR42 milkcow10L
    moose1DOG moose45D moose6OK9 pigSTK69 procySTEM pumaRW rabbit7L6 rabbitFKP rabbitJM6 raccoonVGG ravenOL rhinoDJ7S seabirdKK
    sheepYZR10 tigerD8H zebraBM
"""
IDENTITIES = tuple(_IDENTITIES.split())


def category_of(identity: str) -> str:
    """Such as "bear" of "bear3EP"; empty if the name does not begin with lower-case letters."""
    match = re.match(r"[a-z]*", identity)
    return match[0] if match else ""


CATEGORIES = tuple(sorted({category_of(identity) for identity in IDENTITIES}))

CROSS_IDENTITY_TEST_V1 = frozenset(
    ["bear84Q", "bear9AK", "deerK5L", "deerOMG", "deerSPL", "dinoBDK", "dragonOF2", "foxWDFS", "foxXAT", "moose6OK9", "rabbitFKP"]
)
"""The identities that test; version 1 of our list, as the paper's is not published. `cross_identity_test` says by which rule."""


def cross_identity_test(identities: Sequence[str]) -> frozenset[str]:
    """The rule of `CROSS_IDENTITY_TEST_V1`.

    Within each category of two identities or more, they are ordered by the sha256 of their names, and the first third (rounded up)
    tests. So every category that tests also trains, with other individuals.
    """
    chosen: set[str] = set()
    for _, group in groupby(sorted(identities, key=category_of), key=category_of):
        members = sorted(group, key=lambda identity: sha256(identity.encode()).hexdigest())
        if len(members) > 1:
            chosen.update(members[: -(-len(members) // 3)])
    return frozenset(chosen)
