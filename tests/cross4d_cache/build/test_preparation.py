import zlib

import numpy as np

from cross4d_cache.build.preparation import thin
from cross4d_cache.types import Frame, SequenceInfo

FRAMES = [Frame(points=np.arange(start, start + 60, dtype=np.float32).reshape(20, 3)) for start in (0, 100)]


def kept(name: str, seed: int) -> list[list[int]]:
    """Which of its 20 points each frame keeps, of at most 5."""
    thinned = thin(SequenceInfo(id=name, num_frames=2), FRAMES, points_per_frame=5, seed=seed)
    assert thinned.point_offsets.tolist() == [0, 5, 10]
    return [((thinned.frame(t)[:, 0] - start) / 3).astype(int).tolist() for t, start in enumerate((0, 100))]


def test_points_are_chosen_by_the_seed_and_the_sequence_s_id() -> None:
    """Equal clouds of two sequences lose different points, or what one lacks all would lack."""
    rng = np.random.default_rng([7, zlib.crc32(b"walk")])
    expected = [sorted(rng.permutation(20)[:5].tolist()) for _ in range(2)]
    assert kept("walk", 7) == expected
    assert expected[0] != expected[1]
    assert kept("run", 7) != expected
    assert kept("walk", 8) != expected


def test_a_frame_with_no_more_points_than_allowed_keeps_all() -> None:
    thinned = thin(SequenceInfo(id="walk", num_frames=2), FRAMES, points_per_frame=20, seed=7)
    np.testing.assert_array_equal(thinned.points, np.concatenate([frame.points for frame in FRAMES]))
