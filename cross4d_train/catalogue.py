"""The encoders in all their sizes: how large each is, and how much it computes for a clip.

Nothing heavy is imported, so that the list is there at once; a test counts it again (`cross4d_train.encoders.arithmetic`).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What one clip costs. A multiplication and an addition are two operations.

    `linear_flops` are those of linear layers, `product_flops` those of products of activations: attention. The search for neighbours,
    elementwise operations and norms are not counted.
    """

    parameters: int
    tokens: int
    channels: int
    linear_flops: int
    product_flops: int


NUM_FRAMES, NUM_POINTS = 24, 2048
"""The clip of the table: frames, and points a frame."""

COSTS: dict[tuple[str, str], Cost] = {
    ("point4d", "paper"): Cost(3_271_232, 1_536, 256, 11_516_510_208, 9_663_676_416),
    ("point4d", "small"): Cost(301_072, 768, 96, 675_348_480, 679_477_248),
    ("point4d", "mini"): Cost(170_704, 576, 96, 312_754_176, 254_803_968),
    ("point4d", "tiny"): Cost(15_120, 96, 32, 4_141_056, 1_179_648),
    ("p4transformer", "paper"): Cost(41_993_216, 768, 1_024, 65_034_780_672, 12_079_595_520),
    ("p4transformer", "paper-norm"): Cost(41_995_264, 768, 1_024, 65_034_780_672, 12_079_595_520),
    ("p4transformer", "paper-fine"): Cost(41_995_264, 1_536, 1_024, 130_069_561_344, 48_318_382_080),
    ("p4transformer", "ntu"): Cost(125_920_256, 768, 1_024, 193_883_799_552, 48_318_382_080),
    ("p4transformer", "small"): Cost(1_187_520, 768, 192, 1_926_365_184, 1_811_939_328),
    ("p4transformer", "mini"): Cost(150_048, 1_536, 96, 510_787_584, 1_811_939_328),
    ("p4transformer", "mini-plain"): Cost(149_856, 1_536, 96, 510_787_584, 1_811_939_328),
    ("p4transformer", "mini-fine"): Cost(150_048, 3_072, 96, 1_021_575_168, 7_247_757_312),
    ("p4transformer", "tiny"): Cost(8_800, 1_536, 32, 34_996_224, 301_989_888),
    ("pstnet", "paper"): Cost(8_217_962, 768, 2_048, 39_359_692_800, 424_673_280),
    ("pstnet", "small"): Cost(130_432, 768, 192, 1_230_372_864, 124_747_776),
    ("pstnet", "mini"): Cost(55_952, 768, 96, 425_263_104, 56_401_920),
    ("pstnet", "tiny"): Cost(4_984, 768, 32, 38_338_560, 16_588_800),
}
"""By encoder and size."""
