import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cross4d_cache.errors import SettingsError
from cross4d_train.encoders.temporal import Kernel, windows

CPU = torch.device("cpu")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    num_frames=st.integers(1, 12),
    reach=st.integers(0, 2),
    stride=st.integers(1, 3),
    padding=st.tuples(st.booleans(), st.booleans()),
)
def test_windows_are_those_of_a_convolution(num_frames, reach, stride, padding):
    """Of frame numbers, with the nearest frame where a convolution would pad with zeros."""
    padding = (reach * padding[0], reach * padding[1])
    kernel = Kernel(size=2 * reach + 1, stride=stride, padding=padding)
    added = [None] * padding[0] + list(range(num_frames)) + [None] * padding[1]
    expected = [added[start : start + kernel.size] for start in range(0, len(added) - kernel.size + 1, stride)]
    if not expected:
        with pytest.raises(SettingsError, match=r"raise `clips\.num_frames`"):
            windows(num_frames, kernel, CPU)
        return
    seen = windows(num_frames, kernel, CPU)
    assert seen.inside.tolist() == [[frame is not None for frame in window] for window in expected]
    assert [[frame for frame, inside in zip(*pair, strict=True) if inside] for pair in zip(seen.frames, seen.inside, strict=True)] == [
        [frame for frame in window if frame is not None] for window in expected
    ]
    assert ((seen.frames >= 0) & (seen.frames < num_frames)).all()
    starts = [start + reach - padding[0] for start in range(0, len(added) - kernel.size + 1, stride)]
    assert seen.anchors.tolist() == starts


def test_p4transformer_stands_at_every_other_frame():
    seen = windows(24, Kernel(size=3, stride=2, padding=(1, 0)), CPU)
    assert seen.anchors.tolist() == list(range(0, 24, 2))
    assert seen.frames[0].tolist() == [0, 0, 1]
    assert seen.frames[-1].tolist() == [21, 22, 23]
