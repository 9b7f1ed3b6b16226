import pytest
import torch

from cross4d_train.evaluation.corruption import CORRUPTIONS, Corruption

POINTS = torch.randn(2, 8, 40, 3, generator=torch.Generator().manual_seed(0))


def corrupt(kind, level):
    return Corruption(kind=kind, level=level).apply(POINTS, torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("share", "kept"), [(1, list(range(8))), (0.75, [0, 2, 3, 4, 6, 7]), (0.5, [1, 3, 5, 7]), (0.25, [2, 6])])
def test_frames_that_are_left_are_evenly_spaced(share, kept):
    assert torch.equal(corrupt("frames", share), POINTS[:, kept])


def test_points_that_are_left_are_some_of_the_frame_s_own():
    found = corrupt("points", 0.25)
    assert found.shape == (2, 8, 10, 3)
    for clip, frames in zip(found, POINTS, strict=True):
        for some, every in zip(clip, frames, strict=True):
            rows = {tuple(point) for point in every.tolist()}
            assert {tuple(point) for point in some.tolist()} <= rows
            assert len({tuple(point) for point in some.tolist()}) == 10
    assert torch.equal(found, corrupt("points", 0.25))


def test_every_frame_of_every_clip_loses_points_of_its_own():
    same = torch.arange(40.0).view(1, 1, 40, 1).expand(2, 8, 40, 3)
    found = Corruption(kind="points", level=0.25).apply(same, torch.Generator().manual_seed(1))
    assert len({tuple(sorted(frame[:, 0].tolist())) for clip in found for frame in clip}) == 16


def test_noise_has_its_deviation():
    assert (corrupt("jitter", 0.05) - POINTS).std() == pytest.approx(0.05, rel=0.05)


def test_clean_clips_stay_as_they_are():
    clean = [corruption for corruption in CORRUPTIONS if corruption.is_clean]
    assert [corruption.kind for corruption in clean] == ["frames", "points", "jitter"]
    assert all(corruption.apply(POINTS, torch.Generator()) is POINTS for corruption in clean)
    assert {str(corruption) for corruption in clean} == {"clean"}
