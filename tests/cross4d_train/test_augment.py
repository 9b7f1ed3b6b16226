"""Augmentation of clips."""

import pytest
import torch

from cross4d_train.augment import Augmentation, augment


def make_points():
    return torch.randn(4, 3, 20, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([1.0, 2.0, 3.0])


def augmented(points, seed=5, jitter=0.005):
    augmentation = Augmentation(scale=0.1, yaw_degrees=15.0, jitter_metres=jitter)
    return augment(points, augmentation, torch.Generator().manual_seed(seed))


def test_augmentation_is_seeded():
    points = make_points()
    moved = augmented(points)
    assert moved.shape == points.shape
    assert torch.equal(moved, augmented(points))
    assert not torch.allclose(moved, augmented(points, seed=6), atol=0.01)


def test_augmentation_without_jitter_turns_and_scales_each_clip_about_its_centre():
    points = make_points()
    moved = augmented(points, jitter=0.0)
    assert torch.allclose(moved.mean(dim=(1, 2)), points.mean(dim=(1, 2)), atol=1e-4)
    before, after = (torch.cdist(cloud, cloud) for cloud in (points.flatten(1, 2), moved.flatten(1, 2)))
    apart = before[0] > 0.1
    scales = torch.stack([(new[apart] / old[apart]) for old, new in zip(before, after, strict=True)])
    assert torch.allclose(scales, scales[:, :1], atol=1e-3)
    assert ((scales - 1).abs() <= 0.1 + 1e-3).all()
    assert scales[:, 0].std() > 0.01
    heights, new_heights = ((cloud - cloud.mean(dim=(1, 2), keepdim=True))[..., 1] for cloud in (points, moved))
    assert torch.allclose(new_heights, heights * scales[:, 0].view(-1, 1, 1), atol=1e-3)
    flat, turned = ((cloud - cloud.mean(dim=(1, 2), keepdim=True))[:, 0, 0, ::2] for cloud in (points, moved))
    cosines = torch.nn.functional.cosine_similarity(flat, turned)
    assert (cosines > 0.965).all()  # 15 degrees
    assert cosines.min() < 0.9999


def test_jitter_moves_every_point_a_little():
    points = make_points()
    moved = augmented(points)
    deviation = moved - augmented(points, jitter=0.0)
    assert deviation.std().item() == pytest.approx(0.005, rel=0.15)
