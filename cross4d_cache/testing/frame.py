"""What the arrays of a frame are."""

import numpy as np

from cross4d_cache.types import Frame


def check_frame(where: str, frame: Frame) -> None:
    """The arrays of a frame have the types that a store takes, and equal lengths."""
    points = frame.points
    assert points.dtype == np.float32, f"{where}: points are float32; found {points.dtype}"
    assert points.shape == (len(points), 3), f"{where}: points are (point, 3); found {points.shape}"
    for name, kind in (("part_labels", np.uint16), ("surface_ids", np.uint32)):
        values = getattr(frame, name)
        assert values is None or values.dtype == kind, f"{where}: {name} are {np.dtype(kind)}; found {values.dtype}"
        assert values is None or len(values) == len(points), f"{where}: {len(values)} {name} of {len(points)} points"
