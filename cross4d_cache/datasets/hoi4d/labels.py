"""The words and numbers of HOI4D's labels: semantic classes, object categories, colours of masks, events.

Semantic ids are those of the official table of 3D segmentation labels and, for the hand, of the official code. The classes of the
colours in motion masks differ from one object category to another.
"""

import numpy as np
from jaxtyping import UInt8, UInt16

_SEMANTIC_NAMES = {
    0: "no label",
    1: "noise",
    2: "chair",
    3: "table",
    4: "water dispenser",
    5: "ground",
    9: "bucket",
    10: "garbage can",
    11: "wall",
    12: "sofa",
    13: "bag",
    15: "bowl",
    16: "bottled drinks",
    17: "mug",
    19: "locker",
    20: "express box",
    21: "kettle",
    22: "hammer",
    23: "pliers",
    24: "toy car",
    25: "laptop",
    26: "refrigerator",
    27: "safe",
    28: "stapler",
    29: "desk lamp",
    30: "trolley case",
    31: "knife",
    32: "cupboard",
    33: "bed",
    34: "bedside table",
    35: "door",
    36: "window",
    37: "mural",
    38: "counter",
    39: "curtain",
    40: "pool",
    41: "pillow",
    42: "carpet",
    43: "television",
    44: "ceiling",
    45: "other furniture",
    46: "other objects",
    47: "hand",
    48: "scissors",
}
PART_NAMES = tuple(_SEMANTIC_NAMES.get(number, f"unused {number}") for number in range(49))
"""The semantic class of every id, 0 to 48; ids that the table leaves out are `unused N`."""

OBJECT_CATEGORIES = {
    1: "toy car",
    2: "mug",
    3: "laptop",
    4: "storage furniture",
    5: "bottle",
    6: "safe",
    7: "bowl",
    8: "bucket",
    9: "scissors",
    11: "pliers",
    12: "kettle",
    13: "knife",
    14: "trash can",
    17: "lamp",
    18: "stapler",
    20: "chair",
}
"""The object that is handled, by the number after C in a sequence's id."""

_COLOUR_CLASSES = {
    1: (24, 47),
    2: (17, 47, 17),
    3: (25, 47, 25),
    4: (19, 47, 19, 19, 16),
    5: (16, 47, 17),
    6: (27, 47, 27, 16),
    7: (15, 47, 46),
    8: (9, 47, 9, 9, 9, 47),
    9: (48, 47, 48),
    11: (23, 47, 23),
    12: (21, 47, 17),
    13: (31, 47, 46),
    14: (10, 47, 10, 16),
    17: (29, 47, 29, 29, 29, 47),
    18: (28, 47, 28, 28, 46),
    20: (2, 47, 47),
}
BACKGROUND = np.uint16(65535)
"""What `classes_of_colours` gives for black: the mask does not say."""

EVENT_NAMES = (
    "rest",
    "reach out",
    "stop",
    "grasp",
    "pick up",
    "carry",
    "carry with both hands",
    "put down",
    "open",
    "close",
    "push",
    "pull",
    "press",
    "dump",
    "cut",
    "paper-cut",
    "binding",
    "turn on the switch",
    "go",
    "look around",
)
"""Actions of recordings: the events that were seen in `color.json` files, in no official order."""

CHALLENGE_ACTIONS = tuple(f"action {number}" for number in range(19))
"""Actions of challenge files; which number is which action was never published."""


def palette() -> UInt8[np.ndarray, "colour 3"]:
    """The first ten colours of the Pascal VOC palette, which masks use; 0 is black."""
    index = np.arange(10, dtype=np.uint8)
    channels = [(index >> channel & 1) << 7 | (index >> (channel + 3) & 1) << 6 for channel in range(3)]
    return np.stack(channels, axis=1)


def classes_of_colours(colours: UInt8[np.ndarray, "*shape 3"], category: int) -> UInt16[np.ndarray, "*shape"]:
    """Semantic ids of the colours of a mask; `BACKGROUND` for black, 0 for colours that the category does not use."""
    classes = _COLOUR_CLASSES.get(category, ())
    table = np.zeros(256, np.uint16)
    table[_code(palette())[1 : len(classes) + 1]] = classes
    table[0] = BACKGROUND
    found: UInt16[np.ndarray, "*shape"] = table[_code(colours)]
    return found


def _code(colours: UInt8[np.ndarray, "*shape 3"]) -> UInt8[np.ndarray, "*shape"]:
    """The upper two bits of each channel, which tell the colours of the palette apart; 255 where there are other bits."""
    red, green, blue = np.moveaxis(colours, -1, 0)
    code: UInt8[np.ndarray, "*shape"] = red >> 6 | green >> 6 << 2 | blue >> 6 << 4
    code[(red | green | blue) & 63 != 0] = 255
    return code
