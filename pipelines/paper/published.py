"""The numbers the paper prints (arXiv 2607.00514), by table, row and column; accuracies and IoU as shares of one.

Tables 8, 9 and 19 are missing: their contents are not known to this project. Dataset names are those of the stores.
"""

REPRODUCED = 0.03
"""How far off a cell may be to count as reproduced: the paper itself prints its default cell as .80 to .85 in different tables."""

UNKNOWN_TABLES = (8, 9, 19)

TITLES = {
    1: "Linear probe: untrained, global, dense, and the controls",
    2: "Teachers, global and dense",
    3: "Backbones, global and dense",
    4: "Fine-tuning with part of the labels",
    5: "Transfer between datasets",
    6: "Segmentation by a linear head a point",
    7: "Objectives without a teacher",
    10: "Projection and render size",
    11: "Standardisation of features",
    12: "Transfer between datasets, standardised",
    13: "Clips of worse sensors",
    14: "Variance term",
    15: "Cameras",
    16: "Correspondence across frames",
    17: "Segmentation, trained end to end",
    18: "Global baseline by backbone",
    20: "Dense on the large backbone",
}

MSR, DT4D, NTU, HOI4D = "msr_action3d", "deforming_things4d", "ntu_rgbd", "hoi4d"

PROBE: dict[str, dict[str, float]] = {
    MSR: {"untrained": 0.42, "global": 0.64, "dense": 0.81},
    DT4D: {"untrained": 0.24, "global": 0.42, "dense": 0.49},
    NTU: {"untrained": 0.11, "global": 0.23, "dense": 0.40},
}
"""Table 1."""

TEACHERS: dict[str, dict[str, float]] = {
    "dinov2": {"global": 0.64, "dense": 0.81},
    "dinov3": {"global": 0.64, "dense": 0.87},
    "vjepa2": {"global": 0.61, "dense": 0.88},
    "videomae": {"global": 0.63, "dense": 0.81},
}
"""Table 2, MSR-Action3D, by the family of the teacher."""

BACKBONES: dict[str, dict[str, float]] = {
    "point4d": {"global": 0.64, "dense": 0.81},
    "p4transformer": {"global": 0.80, "dense": 0.60},
}
"""Table 3."""

LABELS: dict[str, dict[float, float]] = {
    "untrained": {0.1: 0.29, 0.25: 0.63, 0.5: 0.76, 1.0: 0.82},
    "dense": {0.1: 0.46, 0.25: 0.73, 0.5: 0.88, 1.0: 0.92},
}
"""Table 4."""

TRANSFER: dict[str, dict[str, float]] = {
    MSR: {MSR: 0.826, DT4D: 0.435, NTU: 0.463},
    DT4D: {MSR: 0.666, DT4D: 0.490, NTU: 0.324},
    NTU: {MSR: 0.680, DT4D: 0.440, NTU: 0.400},
    "untrained": {MSR: 0.593, DT4D: 0.265, NTU: 0.254},
}
"""Tables 5 and 12, by source, then target; the untrained row is that of the standardised probe."""

SEGMENT: dict[str, float] = {"dense": 0.236, "global": 0.072, "dense, from msr_action3d": 0.162}
"""Table 6, mean IoU on HOI4D."""

OBJECTIVES: dict[str, float] = {"untrained": 0.42, "uni4d": 0.25, "mastpre": 0.33, "ijepa": 0.55, "dense": 0.81}
"""Table 7."""

TARGETS: dict[str, float] = {"random:768": 0.807, "pca:384": 0.82, "98 px": 0.807, "168 px": 0.847}
"""Table 10."""

STANDARDISATION: dict[str, tuple[float, float]] = {"untrained": (0.40, 0.59), "dense": (0.80, 0.79)}
"""Table 11: off, on."""

CORRUPTED: dict[str, dict[str, tuple[float, float, float, float]]] = {
    "dense": {"frames": (0.85, 0.81, 0.69, 0.35), "points": (0.85, 0.84, 0.70, 0.16), "jitter": (0.85, 0.84, 0.76, 0.25)},
    "untrained": {"frames": (0.40, 0.13, 0.06, 0.04)},
}
"""Table 13, from clean to worst."""

VARIANCE: dict[float, float] = {1: 0.836, 0: 0.821}
"""Table 14."""

CAMERAS: dict[int, float] = {1: 0.828, 2: 0.818, 4: 0.823}
"""Table 15."""

CORRESPONDENCE: dict[str, dict[int, float]] = {
    "untrained": {8: 0.028, 15: 0.059},
    "global": {8: 0.015, 15: 0.017},
    "dense": {8: 0.082, 15: 0.165},
    "raw coordinates": {8: 0.152, 15: 0.366},
}
"""Table 16, DeformingThings4D."""

END_TO_END: dict[str, float] = {"untrained": 0.390, "dense": 0.409}
"""Table 17, mean IoU on HOI4D."""

GLOBAL: dict[str, dict[str, float]] = {
    "point4d": {"vjepa2": 0.61, "dinov2": 0.64},
    "p4transformer": {"vjepa2": 0.800, "dinov2": 0.804},
}
"""Table 18."""

LARGE: dict[str, float] = {"paper": 0.59, "norm": 0.600, "fine": 0.607}
"""Table 20: dense on P4Transformer as it is, with a last LayerNorm, with finer tokens."""
